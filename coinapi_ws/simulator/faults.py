"""What can be made to go wrong, at any moment."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from .behaviour import SOUND, Selection
from .certificates import KINDS
from .checking import checked_methods
from .client import Client
from .gate import ACCEPTED, Answer
from .instruments import SYMBOL_IDS
from .streams import DATA_TYPES
from .wire import NEVER_NS, NS_PER_SECOND, error_text, frame_header, masked_frame, text_frame

if TYPE_CHECKING:
    from .connection import ServerConnection
    from .engine import Engine

#: Large things are sent in pieces that all share one buffer.
_PIECE_BYTES: Final = 64 * 1024
_MEGABYTE: Final = 1024 * 1024
#: Even the pieces that share a buffer take some memory.
_MOST_BYTES: Final = 4096 * _MEGABYTE
_MOST_FRAMES: Final = 100_000
_SOUND_MESSAGE: Final = b'{"type":"hearbeat"}'
#: Codes that may not stand in a Close frame (RFC 6455, 7.4).
_MAX_REASON_BYTES: Final = 123
_NO_WIRE_CODES: Final = frozenset({1004, 1005, 1006, 1015})


@checked_methods
class Faults:
    """What can be made to go wrong with a `Simulator`, as its attribute ``faults``.

    Every method may be called from any thread and at any moment of the simulator's life, also before it starts;
    it returns once the fault is in effect. ``connection`` is the number of one connection, counted from 1 in
    the order in which they were accepted; None is all. Times are seconds, sizes bytes.

    - *Once*, to connections that are there: `drop`, `close`, `error`, `skip_sequence`, `repeat_sequence`,
      `malformed_json`, `unknown_type`, `invalid_utf8`, `masked_frame`, `oversized_frame`, `oversized_message`,
      `send_text`, `send_bytes`. They return how many connections they reached.
    - *From now on*, until `clear` or other numbers, to connections that are there and, where no ``connection``
      is named, to those that will come: `go_silent` (until `resume`), `ignore_close`, `delay`, `split`,
      `fragment`, `lose`, `deltas_first`, `stale_frames`.
    - *To the next connections*: `slow_handshakes` and `certificate` until told otherwise; the answers of
      `refuse_upgrades`, `redirect_upgrades`, `continue_upgrades` and `garbage_upgrades` to as many upgrade
      requests as they say, one after another in the order of the calls; after one for all requests none comes.

    Raises ValueError and TypeError for values that make no sense, RuntimeError when the simulator is closed.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def clear(self) -> None:
        """End every fault that lasts or waits. What was already sent or lost stays so."""

        def act() -> None:
            engine = self._engine
            engine.behaviour = SOUND
            engine.gate.answer_soundly()
            engine.present_certificate("valid")
            for client in engine.clients:
                client.behaviour = SOUND
                client.serve()
                client.conversation.feed.tampering.clear()

        self._engine.call(act)

    # The connection.

    def drop(self, *, reset: bool = False, connection: int | None = None) -> int:
        """End TCP without a Close, in the middle of whatever was being sent: by FIN, or by RST."""
        return self._once(lambda client, now_ns: client.drop(now_ns, reset=reset), connection, _has_not_ended)

    def go_silent(self, *, heartbeats: bool = False, connection: int | None = None) -> None:
        """Make the connection half-open: TCP stays, and nothing is sent, read or answered, until `resume` or `drop`.

        At `resume` it goes on as after a stalled network: what waits is sent, and Pings are overdue. With
        ``heartbeats``, those and control frames go on, and market data alone is lost, so that sequences show a
        jump after `resume`; a recording pauses.
        """
        self._from_now_on(connection, is_mute=heartbeats, is_cut=not heartbeats)

    def resume(self, *, connection: int | None = None) -> None:
        """End what `go_silent` began."""
        self._from_now_on(connection, is_mute=False, is_cut=False)

    def ignore_close(self, *, keep_sending: bool = False, connection: int | None = None) -> None:
        """Do not answer a client's Close, nor end TCP after it; with ``keep_sending``, market data goes on."""
        self._from_now_on(connection, answers_close=False, sends_after_close=keep_sending)

    def close(self, code: int = 1012, reason: str = "", *, connection: int | None = None) -> int:
        """Send a Close with this code, such as 1012 (service restart) or 1013 (try again later)."""
        if not 1000 <= code <= 4999 or code in _NO_WIRE_CODES:
            raise ValueError(
                f"{code} is no code of a Close frame; there are 1000 to 4999, but for 1004 to 1006 and 1015"
            )
        if not reason.isprintable() or len(reason.encode()) > _MAX_REASON_BYTES:
            raise ValueError(f"reason must be printable text of at most {_MAX_REASON_BYTES} bytes")
        return self._once(
            lambda client, now_ns: client.conversation.connection.close(now_ns, code, reason), connection, _is_not_over
        )

    def error(self, message: str, *, close: bool = True, connection: int | None = None) -> int:
        """Send an ``error`` message, and close after it."""

        def act(client: Client, now_ns: int) -> None:
            if close:
                client.conversation.refuse(message, now_ns)
            else:
                client.conversation.say(error_text(message), "error", now_ns)

        return self._once(act, connection, _is_open)

    def delay(self, seconds: float, *, connection: int | None = None) -> None:
        """Send everything so much later; 0 ends it."""
        self._from_now_on(connection, delay_ns=_nanoseconds("seconds", seconds))

    def split(self, size: int = 1, *, interval: float = 0.0, connection: int | None = None) -> None:
        """Send at most ``size`` bytes at a time, 0 for no limit, and the next not before ``interval`` seconds.

        Over TLS each is a record of its own. Over TCP a system may join what it receives without an interval.
        """
        _not_negative("size", size)
        interval_ns = _nanoseconds("interval", interval)
        self._from_now_on(connection, chunk_bytes=size, chunk_interval_ns=interval_ns)

    def fragment(self, size: int = 1, *, connection: int | None = None) -> None:
        """Send the API's messages in fragments with at most ``size`` bytes of payload, 0 for whole ones."""
        self._from_now_on(connection, fragment_bytes=_not_negative("size", size))

    # Market data.

    def skip_sequence(
        self,
        count: int = 1,
        *,
        types: Iterable[str] | None = None,
        symbol_ids: Iterable[str] | None = None,
        connection: int | None = None,
    ) -> int:
        """Lose each connection's next ``count`` messages, of these types and symbols (None: of all).

        A lost message has taken its sequence number. With a recording, its own numbers jump.
        """
        selection = self._selection(types, symbol_ids)
        _positive("count", count)
        return self._once(
            lambda client, _: client.conversation.feed.tampering.skip(selection, count), connection, _is_not_over
        )

    def repeat_sequence(
        self,
        count: int = 1,
        *,
        types: Iterable[str] | None = None,
        symbol_ids: Iterable[str] | None = None,
        connection: int | None = None,
    ) -> int:
        """Send each connection's next ``count`` messages twice, of these types and symbols (None: of all)."""
        selection = self._selection(types, symbol_ids)
        _positive("count", count)
        return self._once(
            lambda client, _: client.conversation.feed.tampering.repeat(selection, count), connection, _is_not_over
        )

    def lose(
        self,
        rate: float,
        *,
        types: Iterable[str] | None = None,
        symbol_ids: Iterable[str] | None = None,
        connection: int | None = None,
    ) -> None:
        """Lose messages of these types and symbols (None: of all) by chance, which the seed decides.

        ``rate`` is between 0 and 1; 0 ends it. A lost message has taken its sequence number.
        """
        if not 0 <= rate <= 1:
            raise ValueError("rate must be between 0 and 1")
        self._from_now_on(connection, loss_rate=float(rate), lossy=self._selection(types, symbol_ids))

    def deltas_first(self, count: int = 3, *, connection: int | None = None) -> None:
        """Send the snapshot of a book that enters the scope only after ``count`` deltas; 0 ends it.

        For the synthetic market; a recording has an order of its own.
        """
        self._check_is_market()
        self._from_now_on(connection, deltas_first=_not_negative("count", count))

    def stale_frames(self, count: int = 5, *, connection: int | None = None) -> None:
        """After each change of the scope, send ``count`` more frames of what left it; 0 ends it.

        For the synthetic market; a recording has an order of its own.
        """
        self._check_is_market()
        self._from_now_on(connection, stale_frames=_not_negative("count", count))

    # Frames that no sound server sends.

    def send_text(self, text: str, *, connection: int | None = None) -> int:
        """Send any text as one message. A lone surrogate becomes invalid UTF-8."""
        return self.send_bytes(text_frame(text.encode("utf-8", "surrogatepass")), connection=connection)

    def send_bytes(self, raw: bytes, *, connection: int | None = None) -> int:
        """Send any bytes, one at least, between two frames."""
        if not raw:
            raise ValueError("raw must have a byte at least")
        return self._send([raw], connection)

    def malformed_json(self, *, connection: int | None = None) -> int:
        """Send a text that breaks off in the middle of a number."""
        return self.send_text('{"type":"trade","price":12.', connection=connection)

    def unknown_type(self, name: str = "unheard_of", *, connection: int | None = None) -> int:
        """Send a message of a type that the API does not have."""
        return self.send_text(error_text("").replace('"error"', f'"{name}"'), connection=connection)

    def invalid_utf8(self, *, connection: int | None = None) -> int:
        """Send a text message that is no UTF-8 (RFC 6455, 8.1: the client closes with 1007)."""
        return self.send_bytes(text_frame(b'{"type":"\xff\xfe"}'), connection=connection)

    def masked_frame(self, *, connection: int | None = None) -> int:
        """Send a heartbeat that is masked, as only clients may (RFC 6455, 5.1: the client closes with 1002)."""
        return self.send_bytes(masked_frame(_SOUND_MESSAGE, b"\x12\x34\x56\x78"), connection=connection)

    def oversized_frame(self, size: int = 32 * _MEGABYTE, *, connection: int | None = None) -> int:
        """Send one message of this size in one frame."""
        _check_size("size", _positive("size", size))
        return self._send([frame_header(size), *_filling(size)], connection)

    def oversized_message(
        self, size: int = 32 * _MEGABYTE, *, frame_size: int = _PIECE_BYTES, connection: int | None = None
    ) -> int:
        """Send one message of this size in frames of ``frame_size``, each of which is harmless."""
        _check_size("size", _positive("size", size))
        if size > _MOST_FRAMES * _positive("frame_size", frame_size):
            raise ValueError(f"size must be {_MOST_FRAMES} times frame_size at most")
        starts = range(0, size, frame_size)
        pieces = []
        for start in starts:
            length = min(frame_size, size - start)
            pieces.append(frame_header(length, is_first=start == 0, is_last=start == starts[-1]))
            pieces.extend(_filling(length))
        return self._send(pieces, connection)

    # Before there is a connection.

    def refuse_upgrades(
        self,
        status: int = 503,
        *,
        body: str = "",
        body_size: int = 0,
        headers: Mapping[str, str] | None = None,
        count: int | None = 1,
    ) -> None:
        """Answer the next ``count`` upgrade requests (None: all) with an HTTP status, and close.

        ``body_size`` fills up the body to so many bytes, however huge. A body goes also with a status that has none.
        """
        if status == ACCEPTED or not 100 <= status <= 999:
            raise ValueError("status must be between 100 and 999, and not 101")
        text = body.encode()
        _check_size("body_size", _not_negative("body_size", body_size))
        filling = _filling(max(0, body_size - len(text)))
        fields = tuple(_header(name, value) for name, value in (headers or {}).items())
        self._answer(Answer(status, fields, (text, *filling)), count)

    def redirect_upgrades(self, location: str, *, status: int = 302, count: int | None = 1) -> None:
        """Answer the next ``count`` upgrade requests (None: all) with a redirect."""
        if not 300 <= status <= 399:
            raise ValueError("the status of a redirect is 300 to 399")
        self.refuse_upgrades(status, headers={"Location": location}, count=count)

    def continue_upgrades(self, *, count: int | None = 1) -> None:
        """Send ``100 Continue`` before the next ``count`` answers (None: all), where they are a 101."""
        self._answer(Answer(preface=b"HTTP/1.1 100 Continue\r\n\r\n"), count)

    def garbage_upgrades(self, *, count: int | None = 1) -> None:
        """Answer the next ``count`` upgrade requests (None: all) with bytes that are no HTTP, and close."""
        self._answer(Answer(0, preface=b"\x00\xff SSH-2.0-mistaken\r\n\r\n" * 8), count)

    def slow_handshakes(self, seconds: float) -> None:
        """Leave each new connection alone for so long before TLS and the upgrade begin; 0 ends it."""
        delay_ns = _nanoseconds("seconds", seconds)

        def act() -> None:
            self._engine.behaviour = replace(self._engine.behaviour, handshake_delay_ns=delay_ns)
            if not delay_ns:
                for client in self._engine.clients:
                    client.serve()

        self._engine.call(act)

    def certificate(self, kind: str) -> None:
        """Present another certificate to new connections: "valid", "wrong_name", "expired" or "self_signed".

        For a simulator with ``tls=True``.
        """
        if kind not in KINDS:
            raise ValueError(f"there is no certificate {kind!r}; there are {', '.join(KINDS)}")
        if self._engine.certificates is None:
            raise ValueError('certificates are for a simulator with tls=True ("tls": true in a scenario)')
        self._engine.call(lambda: self._engine.present_certificate(kind))

    def _once(
        self,
        act: Callable[[Client, int], object],
        connection: int | None,
        can_be_reached: Callable[[ServerConnection], bool] = lambda _: True,
    ) -> int:
        def reach() -> int:
            named = [client for client in self._engine.clients if connection in (None, client.number)]
            reached = [client for client in named if can_be_reached(client.conversation.connection)]
            for client in reached:
                act(client, self._engine.now_ns())
            return len(reached)

        _check_number(connection)
        return self._engine.call(reach)

    def _from_now_on(self, connection: int | None, **changes: Any) -> None:
        def act() -> None:
            for client in self._engine.clients:
                if connection in (None, client.number):
                    client.behaviour = replace(client.behaviour, **changes)
            if connection is None:
                self._engine.behaviour = replace(self._engine.behaviour, **changes)

        _check_number(connection)
        self._engine.call(act)

    def _send(self, pieces: Sequence[bytes], connection: int | None) -> int:
        return self._once(lambda client, now_ns: client.conversation.send_raw(pieces, now_ns), connection, _is_open)

    def _answer(self, answer: Answer, count: int | None) -> None:
        if count is not None:
            _positive("count", count)
        self._engine.call(lambda: self._engine.gate.answer_next(answer, count))

    def _selection(self, types: Iterable[str] | None, symbol_ids: Iterable[str] | None) -> Selection:
        known = None if self._engine.settings.recording is not None else SYMBOL_IDS
        return Selection(_known("types", types, DATA_TYPES), _known("symbol_ids", symbol_ids, known))

    def _check_is_market(self) -> None:
        if self._engine.settings.recording is not None:
            raise ValueError("this fault is for the synthetic market; a recording has an order of its own")


def _is_open(connection: ServerConnection) -> bool:
    return connection.is_open


def _has_not_ended(connection: ServerConnection) -> bool:
    return not connection.is_finished


def _is_not_over(connection: ServerConnection) -> bool:
    return not connection.is_over


def _header(name: str, value: str) -> tuple[bytes, bytes]:
    text = name + value
    if not (name and text.isascii() and text.isprintable()):
        raise ValueError("headers are printable ASCII, each on one line")
    return name.encode(), value.encode()


def _filling(size: int) -> list[bytes]:
    """Return pieces of so many bytes together, which take no memory to speak of."""
    whole, rest = divmod(size, _PIECE_BYTES)
    piece = b"x" * _PIECE_BYTES
    return [piece] * whole + [piece[:rest]] * bool(rest)


def _known(name: str, values: Iterable[str] | None, known: Iterable[str] | None) -> frozenset[str] | None:
    chosen = None if values is None else frozenset(values)
    unknown = sorted(chosen.difference(known)) if chosen is not None and known is not None else []
    if unknown:
        raise ValueError(f"unknown {name}: {', '.join(unknown)}; there are {', '.join(known or ())}")
    return chosen


def _check_number(connection: int | None) -> None:
    if connection is not None:
        _positive("connection", connection)


def _nanoseconds(name: str, seconds: float) -> int:
    if not 0 <= seconds < float("inf"):
        raise ValueError(f"{name} must be 0 or more, and finite")
    return round(min(seconds * NS_PER_SECOND, NEVER_NS))


def _check_size(name: str, size: int) -> None:
    if size > _MOST_BYTES:
        raise ValueError(f"{name} must be {_MOST_BYTES} bytes at most")


def _not_negative(name: str, value: int) -> int:
    if value < 0:
        raise ValueError(f"{name} must be 0 or more")
    return value


def _positive(name: str, value: int) -> int:
    if value < 1:
        raise ValueError(f"{name} must be 1 or more")
    return value
