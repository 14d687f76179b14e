"""Answers that were damaged on their way: nothing but an error of ours, or a list."""

from __future__ import annotations

import gzip
import json
import socket
import time
from contextlib import suppress
from typing import Any, Final

from hypothesis import given
from hypothesis import strategies as st

from coinapi_ws.converting import Refused, scanner
from coinapi_ws.drivers.failures import ConnectFailed
from coinapi_ws.drivers.transport import Transport
from coinapi_ws.metadata.objects import objects_of
from coinapi_ws.metadata.request import Answer, Wire

LIST: Final = [{"asset_id": "BTC", "name": "ä"}, {"asset_id": "ETH", "n": [1, 2.5e3, {"a": None}]}]
BODY: Final = json.dumps(LIST, ensure_ascii=False).encode()
SQUEEZED: Final = gzip.compress(BODY, mtime=0)
MEMBERS: Final = gzip.compress(BODY[:30], mtime=0) + gzip.compress(BODY[30:], mtime=0)


def sized(body: bytes, headers: bytes = b"") -> bytes:
    return b"HTTP/1.1 200 OK\r\n%sContent-Length: %d\r\n\r\n%s" % (headers, len(body), body)


def chunked(body: bytes, headers: bytes = b"") -> bytes:
    chunks = [body[start : start + 7] for start in range(0, len(body), 7)]
    framed = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in [*chunks, b""])
    return b"HTTP/1.1 200 OK\r\n%sTransfer-Encoding: chunked\r\n\r\n%s" % (headers, framed)


GZIP: Final = b"Content-Encoding: gzip\r\n"
SOUND: Final = [
    sized(BODY),
    chunked(BODY),
    sized(SQUEEZED, GZIP),
    chunked(SQUEEZED, GZIP),
    b"HTTP/1.0 200 OK\r\n\r\n" + BODY,
    b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + chunked(MEMBERS, GZIP),
]


def read(sent: bytes) -> list[Any]:
    ours, theirs = socket.socketpair()
    with theirs:
        theirs.sendall(sent)
        theirs.shutdown(socket.SHUT_WR)
        transport = Transport("of a test", (), connected=ours)
        with Wire(transport, deadline=time.monotonic() + 10, max_bytes=2**20) as wire:
            wire.send(b"")
            answer = Answer(wire, max_bytes=2**20)
            return [fields for fields, _ in objects_of(answer.texts(), scanner(decimal=False))]


@given(st.sampled_from(SOUND))
def test_a_sound_answer_is_the_list(sent: bytes) -> None:
    assert read(sent) == LIST


@given(st.sampled_from(SOUND), st.data())
def test_what_is_cut_off_is_an_error_wherever(sent: bytes, data: st.DataObject) -> None:
    end = data.draw(st.integers(0, len(sent) - 1))
    with suppress(ConnectFailed, Refused):
        assert read(sent[:end]) == LIST
        assert b"\r\n\r\n".endswith(sent[end:])  # of the last chunk, which has nothing in it


@given(st.sampled_from(SOUND), st.lists(st.tuples(st.integers(0, 400), st.integers(0, 9), st.binary(max_size=4))))
def test_a_damaged_answer_is_a_list_or_an_error(sent: bytes, damages: list[tuple[int, int, bytes]]) -> None:
    for position, lost, noise in damages:
        sent = sent[:position] + noise + sent[position + lost :]
    with suppress(ConnectFailed, Refused):
        assert isinstance(read(sent), list)
