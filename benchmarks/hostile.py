"""What hostile input costs: memory at its peak, and time, for each attack that a server, or a careless user, can make.

``python -m benchmarks.hostile`` prints the table of docs/limits.md. Each attack is bytes into a ``Session``, or
calls of one, with everything at its default but what the name says. What it is made of is made before the measuring.
The CPU time is that of a run of its own, since measuring memory takes time. tests/test_hostile.py holds each to its
bound.
"""

from __future__ import annotations

import argparse
import base64
import gc
import hashlib
import re
import time
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import repeat
from typing import Any, Final

from benchmarks.machine import processor, python, today, versions
from coinapi_ws import Disconnected, Options, Pacer, Scope, Secret, Session, Subscription, Undecodable, endpoint_from

MIB: Final = 1 << 20
#: How many of what has no end; fewer in tests, since the memory is the same.
PINGS = 1_000_000
FRAGMENTS = 100_000
SCOPES = 10_000
_CHUNK: Final = 64 * 1024
_TRADES: Final = Subscription(["trade"], symbol_ids=["COINBASE_SPOT_BTC_USD$"])
_QUOTES: Final = Subscription(["quote"], symbol_ids=["COINBASE_SPOT_BTC_USD$"])
_TEXT, _CONTINUATION, _PING, _COMPRESSED, _FINAL = 0x1, 0x0, 0x9, 0x40, 0x80
_GUID: Final = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, section 1.3

#: What an attack comes to: a few words for the table.
Run = Callable[[], str]


@dataclass(frozen=True)
class Attack:
    """One kind of it.

    ``prepare`` takes the limit for messages in bytes and options of the session, and returns what is to be measured.
    The peak is at most ``fixed_mib`` and ``per_limit`` times the limit.
    """

    name: str
    prepare: Callable[..., Run]
    end: str
    fixed_mib: float = 1.0
    per_limit: float = 0.0
    lanes: tuple[bool, ...] = (True, False)
    numbers: tuple[str, ...] = ("float",)

    def bound(self, limit: int) -> float:
        """Return the bytes of memory that it may take at most."""
        return self.fixed_mib * MIB + self.per_limit * limit


def frame(first: int, payload: bytes = b"", *, announced: int | None = None) -> bytes:
    """Return a server's frame: its first byte, its length, which may be a lie, and its payload."""
    size = len(payload) if announced is None else announced
    if size <= 125:
        return bytes([first, size]) + payload
    return (
        bytes([first])
        + (b"\x7e" + size.to_bytes(2, "big") if size < 1 << 16 else b"\x7f" + size.to_bytes(8, "big"))
        + payload
    )


def _session(limit: int, options: dict[str, Any], *headers: str) -> Session:
    """Return a session that is live."""
    session = _asking(limit, options)
    key = re.search(rb"(?im)^sec-websocket-key: (\S+)", session.data_to_send())
    assert key is not None
    proof = base64.b64encode(hashlib.sha1(key[1] + _GUID).digest()).decode()
    head = ["HTTP/1.1 101 OK", "Upgrade: websocket", "Connection: Upgrade", f"Sec-WebSocket-Accept: {proof}", *headers]
    session.receive_data("\r\n".join([*head, "", ""]).encode() + frame(_FINAL | _TEXT, b'{"type":"hearbeat"}'), 0.0, 0)
    session.data_to_send()
    session.events()
    return session


def _asking(limit: int, options: dict[str, Any]) -> Session:
    options = {"endpoint": endpoint_from("ws://127.0.0.1/"), "max_message_bytes": limit, **options}
    session = Session(Options(**options), Scope(_TRADES), pacer=Pacer())
    session.start(0.0)
    return session


def _feed(session: Session, chunks: Iterator[bytes]) -> str:
    """Give it the chunks until it ends; return how it did, or "goes on" where the chunks end first."""
    undecodable = ""
    for chunk in chunks:
        session.receive_data(chunk, 0.0, 0)
        for item in session.events():
            if isinstance(item, Disconnected):
                return str(item.code or item.status or "") + (f" {item.detail}" if item.detail else "")
            if isinstance(item, Undecodable):
                undecodable = f"Undecodable: {item.reason}"
        session.data_to_send()
    return undecodable or "goes on"


def _framed(make: Callable[[int], Iterator[bytes]], *headers: str) -> Callable[..., Run]:
    """Of chunks that follow the upgrade; `make` takes the limit."""

    def prepare(limit: int, **options: Any) -> Run:
        session = _session(limit, options, *headers)
        return lambda: _feed(session, make(limit))

    return prepare


def _announced(limit: int) -> Iterator[bytes]:
    yield frame(_FINAL | _TEXT, announced=4 * limit)
    yield from repeat(b" " * _CHUNK, 4 * limit // _CHUNK)


def _fragments(size: int) -> Callable[[int], Iterator[bytes]]:
    def make(limit: int) -> Iterator[bytes]:
        yield frame(_TEXT, b"{")
        part = frame(_CONTINUATION, b" " * size)
        yield from repeat(
            part * (_CHUNK // len(part)), min(FRAGMENTS, 2 * limit // max(size, 1)) * len(part) // _CHUNK + 1
        )

    return make


def _pings(_: int) -> Iterator[bytes]:
    yield from repeat(frame(_FINAL | _PING, b"x" * 125) * 500, PINGS // 500)


def _bomb(limit: int) -> Iterator[bytes]:
    deflate = zlib.compressobj(wbits=-15)
    block = b" " * limit
    packed = b"".join(deflate.compress(block) for _ in range(4)) + deflate.flush(zlib.Z_SYNC_FLUSH)
    yield frame(_FINAL | _COMPRESSED | _TEXT, packed[:-4])


def _answered(beginning: bytes, endless: bytes) -> Callable[..., Run]:
    def prepare(limit: int, **options: Any) -> Run:
        session = _asking(limit, options)
        session.data_to_send()
        chunk = endless * (_CHUNK // len(endless))

        def chunks() -> Iterator[bytes]:
            yield beginning
            yield from repeat(chunk, 64 * MIB // _CHUNK)

        return lambda: _feed(session, chunks())

    return prepare


def _unanswered_pings(limit: int, **options: Any) -> Run:
    session = _session(limit, options)

    def run() -> str:
        for pings in _pings(limit):
            session.receive_data(pings, 0.0, 0)
        return f"{len(session.data_to_send()) // 1024} KiB of Pongs wait"

    return run


def _hellos(limit: int, **options: Any) -> Run:
    # The vendor's hosts alone have a budget of hellos; nothing is sent there.
    session = _session(limit, {"endpoint": endpoint_from("geo"), "api_key": Secret("a-key-of-nobody"), **options})
    scopes = [Scope(_TRADES), Scope(_QUOTES), Scope(_TRADES, _QUOTES)]

    def run() -> str:
        for number in range(SCOPES):
            session.set_scope(scopes[number % 3], 0.0)
        return f"{len(session.data_to_send()) // 1024} KiB of hellos leave, the newest scope waits"

    return run


def _json(make: Callable[[int], str]) -> Callable[..., Run]:
    """Of one message as large as may be; `make` takes its size."""

    def prepare(limit: int, **options: Any) -> Run:
        session = _session(limit, options)
        whole = frame(_FINAL | _TEXT, make(limit - 100).encode("utf-8", "surrogatepass"))

        def run() -> str:
            chunks = (whole[begin : begin + _CHUNK] for begin in range(0, len(whole), _CHUNK))
            told = _feed(session, chunks)
            return "a message" if told == "goes on" else told

        return run

    return prepare


def _member(value: str) -> str:
    return f'{{"symbol_id":"A","price":{value},"type":"trade"}}'


def _unknown(value: str) -> str:
    return f'{{"symbol_id":"A","invented":{value},"type":"trade"}}'


def _list_of(item: str) -> Callable[[int], str]:
    return lambda size: _unknown(f"[{','.join([item] * (size // (len(item) + 1)))}]")


def _keys(size: int) -> str:
    return _unknown("{" + ",".join(f'"{n:07}":0' for n in range(size // 12)) + "}")


_BOTH: Final = ("float", "decimal")
_TOO_BIG: Final = "1009 a message of more than"
_DEEP: Final = "Undecodable: nested deeper than 64 levels"
_NO_NUMBER: Final = "a number that cannot be represented"
_DIGITS: Final = 1_000_000

ATTACKS: Final = [
    Attack("one frame, four times the limit", _framed(_announced), _TOO_BIG, per_limit=8),
    Attack("fragments of 1 KiB without end", _framed(_fragments(1024)), _TOO_BIG, per_limit=8),
    Attack("100,000 fragments of 1 byte", _framed(_fragments(1)), "goes on", fixed_mib=2, per_limit=8),
    Attack("100,000 empty fragments", _framed(_fragments(0)), "goes on"),
    Attack("a million Pings", _framed(_pings), "goes on"),
    Attack("a million Pings, no Pong taken", _unanswered_pings, "64 KiB of Pongs wait"),
    Attack(
        "an inflate bomb, four times the limit",
        lambda limit, **options: _framed(_bomb, "Sec-WebSocket-Extensions: permessage-deflate")(
            limit, compression=True, **options
        ),
        "1009 ",
        fixed_mib=3,
        per_limit=4,
    ),
    Attack("a header without end", _answered(b"HTTP/1.1 101 OK\r\nX: ", b"x"), "1002 ", lanes=(True,)),
    Attack("headers without end", _answered(b"HTTP/1.1 101 OK\r\n", b"X: x\r\n"), "1002 ", lanes=(True,)),
    Attack("interim answers without end", _answered(b"", b"HTTP/1.1 100 Wait\r\n\r\n"), "1002 ", lanes=(True,)),
    Attack(
        "a refusal's body without end", _answered(b"HTTP/1.1 500 No\r\n\r\n", b"x"), "HTTP status 500", lanes=(True,)
    ),
    Attack("10,000 scopes wanted by the user", _hellos, "1 KiB of hellos leave, the newest scope waits", lanes=(True,)),
    Attack(
        '10,000 scopes, wire="incremental"',
        lambda limit, **options: _hellos(limit, wire="incremental", **options),
        "1 KiB of hellos leave, the newest scope waits",
        lanes=(True,),
    ),
    Attack("JSON: [[[[…", _json(lambda size: _unknown("[" * size)), _DEEP, per_limit=8, numbers=_BOTH),
    Attack('JSON: {"":{"":{…', _json(lambda size: _unknown('{"":' * (size // 4))), _DEEP, per_limit=8, numbers=_BOTH),
    Attack("JSON: a price of a million digits", _json(lambda _: _member("9" * _DIGITS)), _NO_NUMBER, fixed_mib=10),
    Attack(
        "JSON: the same, as a Decimal",
        _json(lambda _: _member("9" * _DIGITS)),
        "a message",
        fixed_mib=10,
        numbers=("decimal",),
    ),
    Attack(
        "JSON: a million digits after the point",
        _json(lambda _: _member("0." + "7" * _DIGITS)),
        "a message",
        fixed_mib=10,
        numbers=_BOTH,
    ),
    Attack(
        "JSON: an exponent of a million digits",
        _json(lambda _: _member("1e" + "9" * _DIGITS)),
        _NO_NUMBER,
        fixed_mib=10,
        numbers=_BOTH,
    ),
    Attack("JSON: as many 0 as fit", _json(_list_of("0")), "a message", per_limit=125, numbers=_BOTH),
    Attack("JSON: as many [] as fit", _json(_list_of("[]")), "a message", per_limit=50, numbers=_BOTH),
    Attack("JSON: as many {} as fit", _json(_list_of("{}")), "a message", per_limit=55, numbers=_BOTH),
    Attack("JSON: as many keys as fit", _json(_keys), "a message", per_limit=40, numbers=_BOTH),
    Attack(
        "JSON: one key as often as fits",
        _json(lambda size: _unknown("{" + ",".join(['"":0'] * (size // 5)) + "}")),
        "a message",
        per_limit=8,
        numbers=_BOTH,
    ),
    Attack(
        "JSON: one text as long as fits",
        _json(lambda size: _unknown('"' + "x" * size + '"')),
        "a message",
        per_limit=8,
        numbers=_BOTH,
    ),
    Attack(
        "JSON: lone surrogates, as many as fit",
        _json(lambda size: _unknown('"' + "\\ud800" * (size // 6) + '"')),
        "Undecodable: a lone surrogate in a text",
        per_limit=10,
        numbers=_BOTH,
    ),
]


def peak_of(run: Run) -> tuple[int, str]:
    """Return the bytes of memory that were taken at the most, and what it came to."""
    gc.collect()
    tracemalloc.start()
    try:
        told = run()
        return tracemalloc.get_traced_memory()[1], told
    finally:
        tracemalloc.stop()


def variants(attack: Attack) -> Iterator[dict[str, Any]]:
    """Yield the options of each way in which the attack is made."""
    for numbers in attack.numbers:
        for fast_lane in attack.lanes:
            yield {"fast_lane": fast_lane, "numbers": numbers}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hostile", description=__doc__.partition("\n")[0])
    parser.add_argument("--limit", type=int, default=1, metavar="MIB", help="max_message_bytes, in MiB (1)")
    limit = parser.parse_args().limit * MIB
    print(f"{today()}, {processor()}, {python()}, {versions(('wsproto', 'msgspec'))}; {limit // MIB} MiB a message\n")
    print("| attack | numbers | fast lane | peak, MiB | CPU, s | what comes of it |")
    print("|---|---|---|---:|---:|---|")
    for attack in ATTACKS:
        for options in variants(attack):
            run = attack.prepare(limit, **options)
            begin = time.process_time()
            told = run()
            seconds = time.process_time() - begin
            del run
            peak, _ = peak_of(attack.prepare(limit, **options))
            lane = "on" if options["fast_lane"] else "off"
            print(
                f"| {attack.name} | {options['numbers']} | {lane} | {peak / MIB:.1f} | {seconds:.2f} | {told} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
