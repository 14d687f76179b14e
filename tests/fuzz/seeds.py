"""Write the corpus that fuzzing begins with: ``python -m fuzz.seeds``. Small, and made here: nothing is a recording."""

from __future__ import annotations

import gzip
import json
import zlib
from pathlib import Path
from typing import Final

from conversation import ADA, HEARTBEAT, error, trade
from quick_frames import COUNT_TOKENS, NUMBER_TOKENS, ODD_TOKENS, usual_frame
from websocket_peer import BINARY, CONTINUATION, PING, PONG, TEXT, close, frame, refuse, text

from coinapi_ws.messages import MESSAGE_TYPES
from coinapi_ws.recording.zstd import ZstdCompressor

from .session import ACCEPT_KEY, API_KEY, MARK

CORPUS: Final = Path(__file__).resolve().parent / "corpus"
BOOK: Final = '{{"symbol_id":"COINBASE_SPOT_BTC_USD","sequence":{},"asks":[{{"price":1,"size":2.5}}],"type":"book"}}'
ANSWER: Final = (
    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: " + ACCEPT_KEY + b"\r\n"
)


def act(number: int) -> bytes:
    return MARK + bytes([number])


def deflated(*payloads: str, keep_context: bool = True) -> bytes:
    """Compressed texts; without context as a server that ends its stream with each (RFC 7692, section 7.2.3.4)."""
    compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    frames = []
    for payload in payloads:
        compressed = compressor.compress(payload.encode())
        compressed += compressor.flush(zlib.Z_SYNC_FLUSH if keep_context else zlib.Z_FINISH)
        frames.append(frame(TEXT, compressed[:-4] if keep_context else compressed + b"\x00", rsv=4))
        if not keep_context:
            compressor = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return b"".join(frames)


def sessions() -> dict[str, bytes]:
    """What servers send; the first two bytes are options and the size of pieces."""
    live = text(HEARTBEAT)
    books = [BOOK.format(sequence) for sequence in (1, 2, 5)]
    parts = trade(uuid="€€€").encode()
    return {
        "trades": b"\x01\x05" + live + text(trade(sequence=1)) * 2 + text(trade(ADA)) + close(),
        "books-with-a-gap": b"\x01\x07" + b"".join(map(text, books)) + text(usual_frame("book20")),
        "all-gaps": b"\x81\x07" + text(trade(sequence=1)) + text(trade(sequence=7)) + close(None),
        "raw-decimals": b"\x39\x03" + text(trade(price=3252)) + text(usual_frame("quote")),
        "fragments": b"\x01\x09"
        + frame(TEXT, parts[:30], fin=False)
        + frame(PING, b"between")
        + frame(CONTINUATION, b"", fin=False)
        + frame(CONTINUATION, parts[30:]),
        "binaries": b"\x01\x02" + frame(BINARY, b"\x00\xff") + frame(BINARY, b"a", fin=False) + frame(CONTINUATION),
        "unreadable": b"\x01\x04" + text("no JSON") + text('{"type":"trade","price":"1"}') + text(b"\xff"),
        "error-with-the-key": b"\x41\x04" + text(error(f"Invalid API key {API_KEY}")) + close(1008, API_KEY),
        "error-then-data": b"\x01\x04" + text(error("Something new")) + live + close(1011, "w\u20ac"),
        "notice": b"\x01\x04" + live + text('{"type":"reconnect","within_seconds":10}') + close(1012),
        "too-much": b"\x01\x1f" + frame(TEXT, b"x" * 250, fin=False) + frame(CONTINUATION, b"x" * 51),
        "long-lengths": b"\x01\x04" + text("x" * 200, length_bytes=8) + text("x" * 9, length_bytes=2),
        "masked": b"\x01\x04" + text(HEARTBEAT, mask=b"mask"),
        "reserved": b"\x01\x04" + live + frame(0x3) + live,
        "silence": b"\x01\x04" + live + act(2) + live + act(2),
        "pings": b"\x81\x04" + live + act(1) + frame(PONG, (1).to_bytes(8, "big")) + act(1) + act(2),
        "scopes": b"\x05\x04" + act(4) + live + act(5) + text(trade()) + act(3) + text(books[0]) + act(9) + close(),
        "scope-too-late": b"\x01\x04" + act(9) + act(3) + live + act(10) + act(9),
        "renewed": b"\x05\x04" + text(books[0]) + act(6) + text(books[0]) + act(0) + text(books[1]),
        "paused": b"\x81\x04" + live + act(7) + act(2) + act(8) + live + act(11),
        "deflated": b"\x02\x04" + deflated(*books, HEARTBEAT) + live,
        "deflated-anew": b"\x03\x04" + deflated(*books, keep_context=False),
        "accepted": b"\x04\x04" + ANSWER + b"X-WsHelloPerIpLimit-Limit: 1\r\n\r\n" + live + act(4) + live,
        "accepted-deflate": b"\x00\x04"
        + ANSWER
        + b"Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits=12\r\n\r\n"
        + deflated(HEARTBEAT),
        "refused": b"\x00\x04" + refuse("429 Too Many", "Retry-After: 5", body=b"slow down " + API_KEY.encode()),
        "refused-in-chunks": b"\x00\x04HTTP/1.1 401 No\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "interim": b"\x00\x04HTTP/1.1 100 Continue\r\n\r\nHTTP/1.0 503 Busy\r\n\r\nwithout a length",
    }


def decoded() -> dict[str, bytes]:
    """Frames of every type, and of the numbers that are hard to represent."""
    seeds = {name: usual_frame(name) for name in MESSAGE_TYPES}
    levels = ",".join(f'{{"price":{token},"size":0}}' for token in NUMBER_TOKENS.split())
    seeds["numbers"] = f'{{"asks":[{levels}],"type":"book"}}'
    for field, tokens in (("sequence", COUNT_TOKENS), ("price", ODD_TOKENS)):
        for number, token in enumerate(tokens.split()):
            seeds[f"{field}-{number}"] = f'{{"{field}":{token},"new":{token},"type":"trade"}}'
    seeds["unknown"] = '{"a":{"b":[1,{"c":null}]},"type":"connectivity_status"}'
    seeds["undeclared"] = usual_frame("book_l3", asks=[{"price": 1.5, "size": 2, "id": 5, "orders": [3]}])
    seeds["too-large"] = '{"new":1e999,"type":"quote"}'
    seeds["spaces"] = ' {"type" :\n"trade"\t, "price" : 1 }\r\n'
    seeds["nested"] = f'{{"new":{"[" * 70}{"]" * 70},"type":"quote"}}'
    return {name: seed.encode() for name, seed in seeds.items()}


def recordings() -> dict[str, bytes]:
    """Recordings, sound and not; the first byte says how the file is made of the rest, the second where it is cut."""
    frames = [HEARTBEAT, usual_frame("trade"), 'ä\u2028"\\\n', ""]
    entries = [json.dumps({"received_ns": number, "frame": frame}) for number, frame in enumerate(frames)]
    lines = "\n".join([*entries, ""]).encode()
    zipped = gzip.compress(lines, mtime=0)
    events = [
        {"event": "Connected", "connection": 1},
        {"frame": usual_frame("trade"), "connection": 1},
        {"event": "Undecodable", "connection": 1, "detail": "a binary frame of 3 bytes"},
        {"event": "Disconnected", "connection": 1, "detail": "the connection broke"},
        {"event": "Dropped", "count": 7, "first_ns": 5},
        {"event": "Connected", "connection": 2},
        {"frame": usual_frame("book"), "connection": 2},
        {"event": "Connected", "connection": 1},
        {"frame": usual_frame("trade"), "connection": 1},
    ]
    recorded = "".join(json.dumps({"received_ns": number, **event}) + "\n" for number, event in enumerate(events))
    zstd = ZstdCompressor()
    compressed = zstd.compress(lines) + zstd.sync() + zstd.compress(recorded.encode()) + zstd.finish()
    return {
        "events": b"\x00\x00" + recorded.encode(),
        "gzip-cut": b"\x02\x00" + zipped[:-12],
        "zstd": b"\x03\x00" + compressed,
        "zstd-twice": b"\x03\x05" + compressed + compressed,
        "zstd-damaged": b"\x03\x00" + compressed[:40] + b"\xff\xff" + compressed[42:],
        "plain": b"\x00\x00" + lines,
        "plain-cut": b"\x00\x05" + lines,
        "bad-line": b"\x00\x00" + lines + b'{"received_ns":true,"frame":""}\n\n[1]\n' + lines,
        "no-utf8": b"\x00\x00" + lines[:70] + b"\xff\n",
        "zipped": b"\x01\x00" + lines,
        "zipped-cut": b"\x01\x15" + lines,
        "gzip": b"\x02\x00" + zipped,
        "gzip-twice": b"\x02\x00" + zipped + zipped,
        "gzip-and-more": b"\x02\x00" + zipped + b"more",
        "gzip-damaged": b"\x02\x00" + zipped[:40] + b"\xff\xff" + zipped[42:],
        "gzip-with-names": b"\x02\x00\x1f\x8b\x08\x1e" + zipped[4:10] + b"\x01\x00xname\x00comment\x00\x00\x00",
    }


def main() -> None:
    for name, seeds in (("session", sessions()), ("decoder", decoded()), ("recording", recordings())):
        directory = CORPUS / name
        directory.mkdir(parents=True, exist_ok=True)
        for seed, data in seeds.items():
            (directory / seed).write_bytes(data)


if __name__ == "__main__":
    main()
