"""Other packages, each used as its own documentation says, the fastest way that it names.

What is switched off is off in ours too, or said in the name: no compression unless it is asked for, no proxy, no pings.
"""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import Callable, Coroutine
from decimal import Decimal
from functools import partial
from typing import Any, Final

from . import HELLO, Job

READ_BYTES: Final = 64 * 1024
#: Frames that may wait in websockets for their reader, in place of 16: threads and tasks then change less often.
QUEUED_FRAMES: Final = 1024


def decoder(job: Job) -> Callable[[Any], Any]:
    """Return what makes a message of a payload: bytes for orjson and msgspec, text for json."""
    if "orjson" in job.options:
        import orjson

        return orjson.loads
    if "msgspec" in job.options:
        from .structs import DECODER

        return DECODER.decode
    if "decoder" in job.options:
        return json.JSONDecoder(parse_float=Decimal).decode
    return partial(json.loads, parse_float=Decimal) if "decimal" in job.options else json.loads


def takes_bytes(job: Job) -> bool:
    return not job.options.isdisjoint({"orjson", "msgspec"})


def callback(job: Job) -> Callable[[Any], None]:
    return job.meter.for_objects() if "msgspec" in job.options else job.meter.for_dicts()


def run_loop(job: Job, main: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine in asyncio's own loop, or in uvloop's."""
    if "uvloop" in job.options:
        import uvloop

        uvloop.run(main)
    else:
        asyncio.run(main)


def websocket_client(job: Job) -> None:
    """Like the vendor's example, a WebSocketApp; "unchecked": a plain connection that leaves UTF-8 unchecked."""
    import websocket

    loads, on_message = decoder(job), callback(job)
    tls = {"context": job.context} if job.context else None
    if "unchecked" in job.options:
        plain = websocket.create_connection(
            job.url, sslopt=tls, enable_multithread=False, skip_utf8_validation=True, http_no_proxy=["*"]
        )
        plain.send(HELLO)
        job.meter.begin()
        while text := plain.recv():
            on_message(loads(text))
        return

    def on_open(app: Any) -> None:
        app.send(HELLO)
        job.meter.begin()

    app = websocket.WebSocketApp(job.url, on_open=on_open, on_message=lambda _, text: on_message(loads(text)))
    app.run_forever(sslopt=tls, http_no_proxy=["*"])


def wsproto_alone(job: Job) -> None:
    """A socket and a loop, as in its own example, with larger reads."""
    from wsproto import ConnectionType, WSConnection
    from wsproto.events import AcceptConnection, CloseConnection, Request, TextMessage
    from wsproto.extensions import PerMessageDeflate

    loads, on_message = decoder(job), callback(job)
    websocket, is_open, parts = WSConnection(ConnectionType.CLIENT), True, list[str]()
    extensions = [PerMessageDeflate()] if job.deflate else []
    with socket.create_connection((job.host, job.port)) as plain:
        peer = job.context.wrap_socket(plain, server_hostname=job.host) if job.context else plain
        peer.sendall(websocket.send(Request(host=job.host, target="/", extensions=extensions)))
        while is_open:
            websocket.receive_data(peer.recv(READ_BYTES) or None)
            for event in websocket.events():
                if isinstance(event, TextMessage):
                    parts.append(event.data)
                    if event.message_finished:
                        on_message(loads(parts[0] if len(parts) == 1 else "".join(parts)))
                        parts.clear()
                elif isinstance(event, AcceptConnection):
                    peer.sendall(websocket.send(TextMessage(data=HELLO)))
                    job.meter.begin()
                elif isinstance(event, CloseConnection):
                    peer.sendall(websocket.send(event.response()))
                    is_open = False
        peer.close()


def websockets_sync(job: Job) -> None:
    """The threading implementation."""
    from websockets.exceptions import ConnectionClosedOK
    from websockets.sync.client import connect

    loads, on_message = decoder(job), callback(job)
    compression = "deflate" if job.deflate else None
    with connect(
        job.url, ssl=job.context, compression=compression, proxy=None, ping_interval=None, max_queue=QUEUED_FRAMES
    ) as connection:
        connection.send(HELLO)
        job.meter.begin()
        if not takes_bytes(job):
            for text in connection:
                on_message(loads(text))
            return
        try:
            while True:
                on_message(loads(connection.recv(decode=False)))
        except ConnectionClosedOK:
            pass


def websockets_asyncio(job: Job) -> None:
    """The asyncio implementation."""
    from websockets.asyncio.client import connect
    from websockets.exceptions import ConnectionClosedOK

    loads, on_message = decoder(job), callback(job)
    compression = "deflate" if job.deflate else None

    async def main() -> None:
        async with connect(
            job.url, ssl=job.context, compression=compression, proxy=None, ping_interval=None, max_queue=QUEUED_FRAMES
        ) as connection:
            await connection.send(HELLO)
            job.meter.begin()
            if not takes_bytes(job):
                async for text in connection:
                    on_message(loads(text))
                return
            try:
                while True:
                    on_message(loads(await connection.recv(decode=False)))
            except ConnectionClosedOK:
                pass

    run_loop(job, main())


def aiohttp_client(job: Job) -> None:
    """A ClientSession's ws_connect."""
    from aiohttp import ClientSession, WSMsgType

    loads, on_message, is_text = decoder(job), callback(job), not takes_bytes(job)

    async def main() -> None:
        async with (
            ClientSession() as session,
            session.ws_connect(
                job.url, ssl=job.context or True, compress=15 if job.deflate else 0, decode_text=is_text
            ) as connection,
        ):
            await connection.send_str(HELLO)
            job.meter.begin()
            async for message in connection:
                if message.type is WSMsgType.TEXT:
                    on_message(loads(message.data))

    run_loop(job, main())


def picows_core(job: Job) -> None:
    """The core API, whose listener gets each frame."""
    from picows import WSMsgType, WSTransport

    loads, on_message, text_type = decoder(job), callback(job), WSMsgType.TEXT

    def on_bytes(transport: WSTransport, frame: Any) -> None:
        if frame.msg_type == text_type:
            on_message(loads(frame.get_payload_as_memoryview()))
        else:
            answer_close(transport, frame)

    def on_text(transport: WSTransport, frame: Any) -> None:
        if frame.msg_type == text_type:
            on_message(loads(frame.get_payload_as_utf8_text()))
        else:
            answer_close(transport, frame)

    run_loop(job, picows_listening(job, on_bytes if takes_bytes(job) else on_text))


def picows_framing(job: Job) -> None:
    """The core API, and a callback that looks at the frame's size."""
    from picows import WSMsgType, WSTransport

    on_size, text_type = job.meter.for_frames(), WSMsgType.TEXT

    def on_frame(transport: WSTransport, frame: Any) -> None:
        if frame.msg_type == text_type:
            on_size(frame.payload_size)
        else:
            answer_close(transport, frame)

    run_loop(job, picows_listening(job, on_frame))


async def picows_listening(job: Job, on_frame: Callable[[Any, Any], None]) -> None:
    """Connect, and listen until the end."""
    from picows import WSListener, WSMsgType, WSTransport, ws_connect

    class Listener(WSListener):
        def on_ws_connected(self, transport: WSTransport) -> None:
            transport.send(WSMsgType.TEXT, HELLO.encode())
            job.meter.begin()

        on_ws_frame = staticmethod(on_frame)

    transport, _ = await ws_connect(Listener, job.url, ssl_context=job.context, read_buffer_init_size=READ_BYTES)
    await transport.wait_disconnected()


def answer_close(transport: Any, frame: Any) -> None:
    from picows import WSMsgType

    if frame.msg_type == WSMsgType.CLOSE:
        transport.send_close(frame.get_close_code())
        transport.disconnect()


WAYS: Final = {
    "websocket-client": websocket_client,
    "wsproto": wsproto_alone,
    "websockets-sync": websockets_sync,
    "websockets-asyncio": websockets_asyncio,
    "aiohttp": aiohttp_client,
    "picows": picows_core,
    "picows-framing": picows_framing,
}
