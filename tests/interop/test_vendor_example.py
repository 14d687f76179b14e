"""The way in that the vendor documents, a plain websocket-client script, works against our simulator."""

from __future__ import annotations

import json
import subprocess
import sys

from coinapi_ws.simulator import Simulator

# As the vendor's documentation writes it: connect, send the hello, receive in a loop.
SCRIPT = """
import json, os, sys
from websocket import create_connection

socket = create_connection(sys.argv[1])
socket.send(json.dumps({
    "type": "hello",
    "apikey": os.environ["KEY"],
    "heartbeat": False,
    "subscribe_data_type": ["trade", "quote"],
    "subscribe_filter_symbol_id": ["BITSTAMP_SPOT_BTC_USD$"],
}))
for _ in range(20):
    print(socket.recv(), flush=True)
socket.close()
"""


def test_the_vendors_documented_script_prints_frames(canary_key: str) -> None:
    with Simulator(seed=7, api_keys=(canary_key,)) as simulator:
        finished = subprocess.run(
            [sys.executable, "-c", SCRIPT, simulator.url],
            env={"KEY": canary_key},
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    assert finished.returncode == 0, finished.stderr
    frames = [json.loads(line) for line in finished.stdout.splitlines()]
    assert len(frames) == 20
    assert {frame["type"] for frame in frames} == {"trade", "quote"}
    assert {frame["symbol_id"] for frame in frames} == {"BITSTAMP_SPOT_BTC_USD"}
    for data_type in ("trade", "quote"):
        sequences = [frame["sequence"] for frame in frames if frame["type"] == data_type]
        assert sequences == list(range(1, len(sequences) + 1))
