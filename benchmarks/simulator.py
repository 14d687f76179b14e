"""How many prepared frames a second the simulator sends from its own process on one core.

A recording of trades, each --frame-bytes long on the wire (header and payload), is replayed with speed=None and
loop=True by a simulator in a child process, a new one each round. A blocking socket on 127.0.0.1 counts the bytes,
on another core where there is one, so that the simulator is the bottleneck. The first pass of the recording and the
last bytes are compared with what has to arrive. The wall clock runs from the hello to the end of the connection,
which the simulator is told to close after --seconds: all that was sent is counted. The child's CPU time, all its
threads together, is taken from before the connection to after it; "busy" is CPU time by wall clock. Preparing the
recording is in neither.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import multiprocessing
import os
import re
import socket
import struct
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any, Final

from coinapi_ws.recording import RecordingWriter
from coinapi_ws.simulator import Simulator

from . import machine

RECORDING_BYTES: Final = 4 * 1024 * 1024
READ_BYTES: Final = 1024 * 1024
HEADER: Final = struct.Struct(">BBH")
FRAME_BYTES: Final = range(215, HEADER.size + 0x10000)  # what a trade needs, and what the header can say
PATIENCE_SECONDS: Final = 30.0  # no single answer takes that long
UPGRADE: Final = (
    b"GET /v1/ HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
HELLO: Final = b'{"type":"hello","heartbeat":false,"subscribe_data_type":["trade"]}'
HELLO_FRAME: Final = struct.pack(">BB4x", 0x81, 0x80 | len(HELLO)) + HELLO  # a mask of zeros changes nothing


def trade(number: int, payload_bytes: int) -> str:
    """Return a trade whose size has as many decimals as the length asks for."""
    instant = f"2024-04-21T13:26:34.{number:07d}Z"
    head = f'{{"time_exchange":"{instant}","time_coinapi":"{instant}","price":64917.35,"size":0.'
    tail = f',"taker_side":"SELL","symbol_id":"COINBASE_SPOT_BTC_USD","sequence":{100_000 + number},"type":"trade"}}'
    return head + str(number % 9 + 1).zfill(payload_bytes - len(head) - len(tail)) + tail


def record(path: Path, frame_bytes: int) -> bytes:
    """Write the recording, and return one pass of it as it has to arrive."""
    size = frame_bytes - HEADER.size
    trades = [trade(number, size) for number in range(RECORDING_BYTES // frame_bytes)]
    with RecordingWriter(path) as writer:
        for number, text in enumerate(trades):
            writer.write(text, number)
    return b"".join(HEADER.pack(0x81, 126, size) + text.encode() for text in trades)


def serve(path: Path, core: int | None, pipe: Connection[Any, Any]) -> None:
    """Run the simulator until told to stop; tell its port, then its CPU seconds."""
    if core is not None:
        os.sched_setaffinity(0, {core})
    # A Ping would be no frame of the recording. EOFError: the parent is gone.
    simulator = Simulator(recording=path, speed=None, loop=True, ping_interval=math.inf)
    with simulator, contextlib.suppress(EOFError):
        begin = time.process_time()
        pipe.send(simulator.port)
        pipe.recv()
        simulator.close()
        pipe.send(time.process_time() - begin)


def answer(pipe: Connection[Any, Any]) -> Any:
    """Return what the child says next."""
    if not pipe.poll(PATIENCE_SECONDS):
        raise TimeoutError("the simulator's process does not answer")
    return pipe.recv()


def drain(peer: socket.socket, pipe: Connection[Any, Any], seconds: float, wire: bytes) -> tuple[int, float]:
    """Say hello, read until the end of the connection, and return how many bytes came in how many seconds."""
    endless, view, total, is_over = wire * 2, memoryview(bytearray(READ_BYTES)), 0, False
    start = time.perf_counter()
    peer.sendall(HELLO_FRAME)
    while not is_over:
        count = peer.recv_into(view)
        is_over = time.perf_counter() - start >= seconds
        is_checked = total < len(wire) or is_over
        if not count or (is_checked and not endless.startswith(view[:count], total % len(wire))):
            raise RuntimeError(f"not the expected frames after {total} bytes")
        total += count
    pipe.send("stop")
    while count := peer.recv_into(view):
        total += count
    return total, time.perf_counter() - start


def measure(path: Path, wire: bytes, seconds: float, core: int | None) -> tuple[int, float, float]:
    """Return the bytes that a new process sent, and its seconds by the wall clock and of CPU time."""
    spawn = multiprocessing.get_context("spawn")
    pipe, theirs = spawn.Pipe()
    child = spawn.Process(target=serve, args=(path, core, theirs), daemon=True)
    child.start()
    theirs.close()
    try:
        with pipe, socket.create_connection(("127.0.0.1", answer(pipe)), PATIENCE_SECONDS) as peer:
            peer.sendall(UPGRADE)
            if not re.fullmatch(rb"HTTP/1\.1 101 .*\r\n\r\n", response := peer.recv(READ_BYTES), re.DOTALL):
                raise RuntimeError(f"no upgrade: {response!r}")
            return *drain(peer, pipe, seconds, wire), answer(pipe)
    finally:
        child.join(PATIENCE_SECONDS)
        child.kill()


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.simulator", None, __doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--seconds", type=float, default=5.0, help="how long a round takes (5)")
    parser.add_argument("--frame-bytes", type=int, default=220, help="a frame on the wire, header included (220)")
    parser.add_argument("--rounds", type=int, default=5, help="how often to measure (5)")
    options = parser.parse_args()
    if not 0 < options.seconds < math.inf or options.rounds < 1 or options.frame_bytes not in FRAME_BYTES:
        parser.error(f"seconds and rounds are above 0, frames have {FRAME_BYTES[0]} to {FRAME_BYTES[-1]} bytes")
    cores = machine.cores()
    if cores:
        os.sched_setaffinity(0, {cores[-1]})
    print(f"{machine.processor()}, {os.cpu_count()} cores")
    print(f"{machine.python()}, frames of {options.frame_bytes} bytes")
    line, rates = "{}: {:,.0f} frames/s, {:,.0f} frames per CPU second ({:.0%} busy)", []
    with tempfile.TemporaryDirectory() as directory:
        wire = record(path := Path(directory, "trades.jsonl"), options.frame_bytes)
        for number in range(1, options.rounds + 1):
            count, wall, cpu = measure(path, wire, options.seconds, cores[0] if cores else None)
            frames = count // options.frame_bytes
            rates.append((frames / wall, frames / cpu, cpu / wall))
            print(line.format(f"round {number}", *rates[-1]), flush=True)
    print(line.format("median", *map(median, zip(*rates, strict=True))))


if __name__ == "__main__":
    main()
