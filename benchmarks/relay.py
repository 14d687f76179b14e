"""Messages through Redis: two relays share the symbols, two readers the streams, and one of these is killed.

Each relay has a server of its own, which sends its shard of the mix as fast as it is read, and publishes to one real
``redis-server``, which this starts. Each reader notes every message that it handled in a file before it asks for the
next one. The one that is the first to have noted a fifth is killed with SIGKILL. At the end what both noted is compared
with what was made: every sequence of every type and symbol at least once, and their sums.

CPU time of a relay is that of its whole process between its first message and its last: reading the socket, framing,
finding the symbol, and publishing; of a reader that of its process over all that it read. Beside it: redis-py's plain
``XADD`` of such texts, which are at hand, in pipelines. Redis, servers and all processes share the cores.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from coinapi_ws import Client, Connected, Gap, Message, Scope, Subscription
from coinapi_ws.recording import RecordingWriter
from coinapi_ws.relay import RedisPublisher, RedisReader, Relay

from . import machine, mix
from .blaster import Blaster, Order

SHARDS: Final = 2
#: What is sent is made once and sent so often, the sequences going on.
PASSES: Final = 10
PIPELINE: Final = 256
LEASE_SECONDS: Final = 3.0
PATIENCE_SECONDS: Final = 1800.0
GROUP: Final = "benchmark"
NOTE: Final = struct.Struct("<HQ")
KEYS: Final = [(name, market.symbol_id) for name in mix.SHARES for market in mix.MARKETS]
NUMBER_OF_KEY: Final = {key: number for number, key in enumerate(KEYS)}
SCOPE: Final = Scope(Subscription(mix.SHARES, symbol_ids=[f"{market.symbol_id}$" for market in mix.MARKETS]))
_END: Final = re.compile(r'"symbol_id":"([^"]*)","sequence":(\d+),"type":"([^"]*)"}$')


def relay(url: str, redis: str, shard: int, messages: int) -> dict[str, float]:
    """Publish so many messages of a shard; a process of its own."""
    begun: list[tuple[float, float]] = []
    with RedisPublisher(redis, max_age=None, max_length=10 * messages) as publisher:
        client = Client(None, *SCOPE.shards(SHARDS)[shard], endpoint=url, keep_raw=True)
        published = Relay(client, publisher)
        client.on(Connected, lambda _: begun.append((time.process_time(), time.monotonic())))
        with client:
            while published.stats().published < messages:
                if client.join(0.005) or (client.disconnected is not None and not begun):
                    raise SystemExit("the server is not there")
            cpu, seconds = time.process_time() - begun[0][0], time.monotonic() - begun[0][1]
    return {"cpu_us": cpu / messages * 1e6, "seconds": seconds, "repeated": publisher.repeated}


def read(redis: str, ledger: str) -> None:
    """Note all messages that come, until SIGTERM; a process of its own."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    gaps, handled, begun = 0, 0, time.process_time()
    with (
        open(ledger, "wb", buffering=0) as notes,
        RedisReader(redis, group=GROUP, lease_seconds=LEASE_SECONDS) as reader,
    ):
        try:
            for item in reader:
                if isinstance(item, Message):
                    key = (item.type, item.symbol_id)
                    notes.write(NOTE.pack(NUMBER_OF_KEY[key], item.sequence))
                    handled += 1
                elif isinstance(item, Gap):
                    gaps += 1
        finally:
            cpu = time.process_time() - begun
            print(json.dumps({"gaps": gaps, "handled": handled, "cpu_us": cpu / max(1, handled) * 1e6}), flush=True)


def plain(redis: str, messages: int) -> dict[str, float]:
    """XADD so many messages of the mix in pipelines."""
    import redis as redis_py

    texts = [payload.decode() for payload in mix.mixed(messages)]
    client = redis_py.Redis.from_url(redis)
    cpu, seconds = -time.process_time(), -time.monotonic()
    for start in range(0, messages, PIPELINE):
        pipeline = client.pipeline(transaction=False)
        for text in texts[start : start + PIPELINE]:
            pipeline.xadd("plain", {"frame": text, "received_ns": start, "connection": "plain.1"})
        pipeline.execute()
    cpu, seconds = cpu + time.process_time(), seconds + time.monotonic()
    client.delete("plain")
    client.close()
    return {"cpu_us": cpu / messages * 1e6, "seconds": seconds}


@contextlib.contextmanager
def redis_server(directory: Path) -> Iterator[str]:
    """Run a server without persistence; yield its URL."""
    program = shutil.which("redis-server")
    if program is None:
        sys.exit("redis-server is not installed")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    options = ("--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(directory))
    with subprocess.Popen([program, *options], stdout=subprocess.DEVNULL) as process:
        try:
            yield f"redis://127.0.0.1:{port}/0"
        finally:
            process.kill()


@contextlib.contextmanager
def child(*arguments: object, without: str = "") -> Iterator[subprocess.Popen[str]]:
    """Run another process of this module; kill it at the end, if need be."""
    command = [sys.executable, "-m", "benchmarks.relay", "--without", without, *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def result_of(process: subprocess.Popen[str]) -> dict[str, float]:
    """Return what a child printed at its end."""
    out, _ = process.communicate(timeout=PATIENCE_SECONDS)
    if process.returncode:
        raise SystemExit(f"a child ended with {process.returncode}")
    return dict(json.loads(out))


class Made:
    """What is to be sent, in passes whose sequences go on, and an account of it that the package has no part in."""

    def __init__(self, directory: Path, messages: int) -> None:
        once: dict[tuple[str, str], list[int]] = defaultdict(list)
        self.paths = [directory / f"shard-{shard}.jsonl" for shard in range(SHARDS)]
        self.counts = [0] * SHARDS
        shards = SCOPE.shards(SHARDS)
        shard_of = {name[:-1]: n for n, shard in enumerate(shards) for member in shard for name in member.symbol_ids}
        with contextlib.ExitStack() as stack:
            writers = [stack.enter_context(RecordingWriter(path)) for path in self.paths]
            for payload in mix.mixed(messages // PASSES):
                text = payload.decode()
                found = _END.search(text)
                assert found is not None
                once[found[3], found[1]].append(int(found[2]))
                shard = shard_of[found[1]]
                writers[shard].write(text, 0)
                self.counts[shard] += PASSES
        highest = {key: max(found) for key, found in once.items()}
        self.sequences = {
            key: {sequence + number * highest[key] for sequence in found for number in range(PASSES)}
            for key, found in once.items()
        }


def noted(ledgers: list[Path]) -> Counter[tuple[tuple[str, str], int]]:
    """Return how often each message was handled."""
    counts: Counter[tuple[tuple[str, str], int]] = Counter()
    for ledger in ledgers:
        whole = ledger.stat().st_size // NOTE.size * NOTE.size  # a kill may leave a part
        counts.update((KEYS[key], sequence) for key, sequence in NOTE.iter_unpack(ledger.read_bytes()[:whole]))
    return counts


def first_to_note(readers: list[subprocess.Popen[str]], ledgers: list[Path], messages: int) -> int:
    """Wait until a reader has noted so many; return which."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < deadline and all(reader.poll() is None for reader in readers):
        for number, ledger in enumerate(ledgers):
            if ledger.exists() and ledger.stat().st_size >= messages * NOTE.size:
                return number
        time.sleep(0.01)
    raise SystemExit("no reader got as far as where it is to be killed")


def wait_until_read(client: Any) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not is_read(client):
        if time.monotonic() > deadline:
            raise SystemExit("the reader that is left did not get to the end")
        time.sleep(0.1)


def is_read(client: Any) -> bool:
    """Return whether the group has handled all there is."""
    for key in client.scan_iter("coinapi:{*}", _type="stream"):
        last = client.xinfo_stream(key)["last-generated-id"]
        if [group["last-delivered-id"] for group in client.xinfo_groups(key)] != [last]:
            return False
    return True


def demonstrate(directory: Path, redis: str, messages: int) -> None:
    """Send all of it through, kill a reader, and compare."""
    import redis as redis_py

    made = Made(directory, messages)
    ledgers = [directory / f"reader-{number}" for number in range(2)]
    with contextlib.ExitStack() as stack:
        readers = [stack.enter_context(child("read", redis, ledger)) for ledger in ledgers]
        blasters = [stack.enter_context(Blaster(None, None, path)) for path in made.paths]
        pool = stack.enter_context(ThreadPoolExecutor())

        def start(shard: int) -> tuple[float, subprocess.Popen[str]]:
            # At once, since a server that is ready does not wait for ever.
            port, _ = blasters[shard].prepare(Order("plain", made.counts[shard]))
            begun = time.monotonic()
            relay = child("relay", f"ws://127.0.0.1:{port}/", redis, shard, made.counts[shard])
            return begun, stack.enter_context(relay)

        starting = [pool.submit(start, shard) for shard in range(SHARDS)]
        first = first_to_note(readers, ledgers, messages // 5)
        readers[first].kill()
        killed = time.monotonic()
        started = [future.result() for future in starting]
        begun = min(at for at, _ in started)
        results = [result_of(process) for _, process in started]
        with redis_py.Redis.from_url(redis) as client:
            wait_until_read(client)
        whole = time.monotonic() - begun
        readers[1 - first].terminate()
        survivor = result_of(readers[1 - first])
    for shard, (result, count) in enumerate(zip(results, made.counts, strict=True)):
        rate = count / result["seconds"]
        print(f"| relay of shard {shard + 1}/{SHARDS}, with its socket | {rate:,.0f} | {result['cpu_us']:.1f} |")
    print(f"| reader, float | {survivor['handled'] / whole:,.0f} | {survivor['cpu_us']:.1f} |")
    counts = noted(ledgers)
    missing = sum((key, sequence) not in counts for key, wanted in made.sequences.items() for sequence in wanted)
    foreign = len(counts) - (messages - missing)
    sums_agree = sum(sequence for _, sequence in counts) == sum(map(sum, made.sequences.values()))
    twice = sum(count > 1 for count in counts.values())
    print(
        f"\n{messages:,} messages in {whole:.1f} s; a reader killed after {killed - begun:.1f} s. "
        f"Handled: {counts.total():,}, "
        f"{twice:,} of them again after the kill; {missing} missing, {foreign} that were never sent; "
        f"sums {'agree' if sums_agree else 'DIFFER'}."
    )
    if missing or foreign or not sums_agree:
        raise SystemExit(1)


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.relay", None, __doc__)
    parser.add_argument("--messages", type=int, default=1_000_000, help="default: 1,000,000; a multiple of 10")
    parser.add_argument("--without", default="", help=argparse.SUPPRESS)
    parser.add_argument("part", nargs="*", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.without:
        sys.modules[options.without] = None  # type: ignore[assignment]
    part, *arguments = options.part or ["all"]
    if part == "relay":
        url, redis, shard, count = arguments
        print(json.dumps(relay(url, redis, int(shard), int(count))))
    elif part == "read":
        read(*arguments)
    elif part == "plain":
        print(json.dumps(plain(arguments[0], int(arguments[1]))))
    else:
        print(
            f"{machine.today()}, {machine.processor()}, {len(machine.cores())} cores; {machine.python()}; "
            f"{machine.versions(('coinapi-ws', 'redis', 'hiredis', 'msgspec'))}; {options.messages:,} messages\n"
        )
        with tempfile.TemporaryDirectory() as name, redis_server(Path(name)) as redis:
            print("| what | messages/s | CPU µs/message |\n|---|---:|---:|")
            few = max(1, options.messages // 20)
            for without in ("", "hiredis"):
                with child("plain", redis, few, without=without) as process:
                    result = result_of(process)
                title = "XADD in a pipeline" + (f", without {without}" if without else "")
                print(f"| {title} | {few / result['seconds']:,.0f} | {result['cpu_us']:.1f} |", flush=True)
            demonstrate(Path(name), redis, options.messages)


if __name__ == "__main__":
    main()
