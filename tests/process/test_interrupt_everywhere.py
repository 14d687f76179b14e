"""A Ctrl-C after each call in the package's own code that the main thread comes to, one after the other (F18).

Where a signal would hit a place by chance once in millions, these hit each: a trace function raises
``KeyboardInterrupt`` there. That is where Python looks for signals, and where a loop begins again.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest
from programs import TIMEOUT_SECONDS, running

from coinapi_ws.recording import RecordingWriter
from coinapi_ws.simulator import Simulator

pytestmark = pytest.mark.skipif(os.name != "posix", reason="the process is told to show where it hangs as POSIX does")

INTERRUPTING: Final = """
import dis, faulthandler, functools
import coinapi_ws.client.client, coinapi_ws.drivers.blocking as blocking
warnings.simplefilter("ignore", ResourceWarning)  # a socket may be lost between connect() and its assignment
faulthandler.dump_traceback_later(50, exit=True)

@functools.cache
def after_calls(code):
    # Where the interpreter looks for signals.
    all_of_it = list(dis.get_instructions(code))
    pairs = zip(all_of_it, all_of_it[1:])
    return {after.offset for before, after in pairs if before.opname.startswith(("CALL", "RESUME"))}

class Interrupting:
    # Counts the places of the code below paths, by instruction; each round has another one interrupted.
    def __init__(self, *paths, handler=signal.default_int_handler):
        self.paths = paths
        self.handler = handler
        self.places = {}
        self.place = None
    def next_round(self):
        self.place = next((place for place, was_met in self.places.items() if not was_met), None)
        return not self.places or self.place is not None
    def trace(self, frame, event, arg):
        code = frame.f_code
        if not code.co_filename.startswith(self.paths) and code is not threading.Thread.start.__code__:
            return None
        frame.f_trace_opcodes = True
        if event == "opcode" and frame.f_lasti in after_calls(code):
            place = code.co_filename, code.co_name, frame.f_lasti
            self.places.setdefault(place, False)
            if place == self.place:
                self.handler(signal.SIGINT, frame)
        return self.trace
    def during(self, call, *args):
        # Returns whether it was interrupted.
        sys._getframe().f_trace_opcodes = True  # before, for CPython 3.12 to look for them at all
        sys.settrace(self.trace)
        try:
            call(*args)
            return False
        except KeyboardInterrupt:
            return True
        finally:
            sys.settrace(None)
            self.places[self.place] = True  # also where it was not met again

def is_left(thread):
    # The interpreter goes on to list one whose start was cut off before it began.
    return thread.name.startswith("coinapi-ws") and thread.is_alive()

def no_thread_is_left():
    end = time.monotonic() + 30
    while any(map(is_left, threading.enumerate())):
        assert time.monotonic() < end
        time.sleep(0.001)

def account(seen):
    numbers = [item.sequence for item in seen if isinstance(item, Trade)]
    assert numbers == sorted(set(numbers)), numbers
    lost = numbers[-1] - len(numbers) if numbers else 0
    assert lost <= 1, numbers

def take(source, most, seen):
    for item in source:
        seen.append(item)
        if len(seen) >= most:
            break

def take_one_by_one(source, most, seen):
    while len(seen) < most:
        seen.append(source.recv(timeout=30))
"""

STREAM: Final = """
def connected():
    return connect(None, TRADES, endpoint=sys.argv[1], request_heartbeats=False, close_timeout=0.1)

def closed(stream):
    stream.close()
    assert stream.disconnected is not None
    assert list(stream) == []
"""

READING_A_STREAM: Final = """
for how in take, take_one_by_one:
    interrupting = Interrupting(blocking.__file__)
    ended = went_on = 0
    while interrupting.next_round():
        seen = []
        stream = connected()
        interrupting.during(how, stream, 200, seen)
        if stream.disconnected is None:
            how(stream, len(seen) + 50, seen)
            went_on += 1
        else:
            ended += 1
        account(seen)
        closed(stream)
    assert ended > 0 and went_on > 10, (ended, went_on)
"""

ENDS_OF_A_STREAM: Final = """
interrupting = Interrupting(blocking.__file__)
while interrupting.next_round():
    streams = []
    interrupting.during(lambda: streams.append(connected()))
    for stream in streams:
        closed(stream)
assert len(interrupting.places) > 5, interrupting.places
interrupting = Interrupting(blocking.__file__)
while interrupting.next_round():
    stream = connected()
    next(stream)
    interrupting.during(stream.close)
    closed(stream)
assert len(interrupting.places) > 5, interrupting.places
"""

SCOPE_OF_A_STREAM: Final = """
import coinapi_ws.protocol.session as session
interrupting = Interrupting(blocking.__file__, session.__file__)
ended = 0
while interrupting.next_round():
    stream = connected()  # nothing is read, so not the end of the recording either
    was_cut = interrupting.during(stream.replace, QUOTES, TRADES)
    if was_cut and interrupting.place[1] in ("set_scope", "_send_scope_frames"):
        assert stream.disconnected is not None, "half of it may have been sent"
        ended += 1
    closed(stream)
assert ended > 5, ended
"""

CLIENT: Final = """
PACKAGE = os.path.dirname(coinapi_ws.client.client.__file__)

def closed(client):
    assert client.close(10), client.state
    assert client.state is ClientState.CLOSED
    no_thread_is_left()

def try_all(call, is_started=True, callback=None):
    interrupting = Interrupting(PACKAGE)
    count = 0
    while interrupting.next_round():
        seen = []
        client = new_client(request_heartbeats=False)
        if callback is not None:
            client.on(Trade, callback)
        if is_started:
            client.start()
            assert client.wait_live(30)
        count += interrupting.during(call, client, seen)
        if seen:
            take_one_by_one(client, len(seen) + 50, seen)
            account(seen)
        closed(client)
    assert count > 5, count
"""

OF_A_CLIENT: Final = {
    "start": "try_all(lambda client, seen: client.start(), is_started=False)",
    "start-with-callback": "try_all(lambda client, seen: client.start(), is_started=False, callback=see)",
    "first-callback": "try_all(lambda client, seen: client.on(Trade, see))",
    "iteration": "try_all(lambda client, seen: take(client, 100, seen))",
    "recv": "try_all(lambda client, seen: take_one_by_one(client, 100, seen))",
    "scope": "try_all(lambda client, seen: client.replace(QUOTES, TRADES))",
    "close": "try_all(lambda client, seen: client.close(5))",
}


RECORDER: Final = """
import itertools, tempfile
import coinapi_ws.client, coinapi_ws.recording.recorder as module
from coinapi_ws.protocol.frames import Frames
from coinapi_ws.recording import Recorder
from coinapi_ws.recording.reading import read_entries

PATHS = os.path.dirname(module.__file__), os.path.dirname(coinapi_ws.client.__file__)
TEXTS = ["x" * 100, "y" * 100]
connection = SelectorConnection(Options(endpoint=endpoint_from(sys.argv[1])), Scope(TRADES))
directory = tempfile.TemporaryDirectory()
paths = (os.path.join(directory.name, f"{n}.jsonl.gz") for n in itertools.count())

def taken(recorder, times=1):
    for _ in range(times):
        recorder.take(connection, [Frames(1, [], TEXTS)])

def frames_in(path):
    return sum(entry.frame is not None for entry in read_entries(path))
"""

OF_A_RECORDER: Final = {
    "new": """
interrupting = Interrupting(*PATHS)
while interrupting.next_round():
    made = []
    interrupting.during(lambda: made.append(Recorder(next(paths))))
    for recorder in made:
        recorder.close()
    no_thread_is_left()
assert len(interrupting.places) > 20, interrupting.places
""",
    "take": """
interrupting = Interrupting(*PATHS, threading.__file__)
while interrupting.next_round():
    recorder = Recorder(next(paths), flush_seconds=3600, max_waiting_bytes=1500)
    interrupting.during(taken, recorder, 5)
    taken(recorder)
    recorder.close()
    assert recorder.written == frames_in(recorder.path)
    assert recorder.lost == sum(entry.more.get("count", 0) for entry in read_entries(recorder.path))
    no_thread_is_left()
assert len(interrupting.places) > 5, interrupting.places
""",
    "take-and-close": """
interrupting = Interrupting(*PATHS, threading.__file__, handler=lambda *_: recorder.close())
while interrupting.next_round():
    recorder = Recorder(next(paths), flush_seconds=3600, max_waiting_bytes=1500)
    assert not interrupting.during(taken, recorder)
    recorder.close()
    assert recorder.written == frames_in(recorder.path)
    assert recorder.written + recorder.lost == 2
    no_thread_is_left()
assert len(interrupting.places) > 5, interrupting.places
""",
    "close": """
interrupting = Interrupting(*PATHS, threading.__file__)
while interrupting.next_round():
    recorder = Recorder(next(paths), flush_seconds=3600)
    taken(recorder)
    interrupting.during(recorder.close)
    recorder.close()
    assert (recorder.written, recorder.lost, frames_in(recorder.path)) == (2, 0, 2)
    no_thread_is_left()
assert len(interrupting.places) > 5, interrupting.places
""",
    "command": """
from coinapi_ws.cli.streaming import _opened_recorder

def recorded(path):
    with _opened_recorder(path) as recorder:
        taken(recorder)
        was_taken.append(path)

interrupting = Interrupting(*PATHS)
while interrupting.next_round():
    was_taken = []
    interrupting.during(recorded, next(paths))
    no_thread_is_left()
    for path in was_taken:
        assert frames_in(path) == 2
assert len(interrupting.places) > 20, interrupting.places
""",
}


@pytest.fixture(scope="module")
def numbered(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording of 400 numbered trades, and now and then a frame that cannot be decoded."""
    path = tmp_path_factory.mktemp("numbered") / "numbered.jsonl"
    with RecordingWriter(path) as writer:
        for n in range(1, 401):
            writer.write(f'{{"sequence":{n},"symbol_id":"COINBASE_SPOT_BTC_USD","price":1.5,"type":"trade"}}', n)
            if n % 20 == 0:
                writer.write('{"type":"trade","price":}', n)
    return path


Run = Callable[[str], None]


@pytest.fixture
def run(canary_key: str, numbered: Path) -> Run:
    """A function that runs a program against that recording."""

    def run(program: str) -> None:
        with (
            Simulator(recording=numbered, speed=None) as simulator,
            running(INTERRUPTING + program + "\nsay('done')", simulator.url, canary_key) as child,
        ):
            output, errors = child.communicate(timeout=TIMEOUT_SECONDS)
        assert (output, child.returncode) == ("done\n", 0), errors

    return run


@pytest.mark.parametrize(
    "program", [READING_A_STREAM, ENDS_OF_A_STREAM, SCOPE_OF_A_STREAM], ids=["reading", "ends", "scope"]
)
def test_of_a_stream_f18(run: Run, program: str) -> None:
    """At most the message that is being taken is lost, and close() returns."""
    run(STREAM + program)


@pytest.mark.parametrize("call", OF_A_CLIENT)
def test_of_a_client_f18(run: Run, call: str) -> None:
    """The same; the client goes on, and once it is closed no thread is left."""
    run(CLIENT + OF_A_CLIENT[call])


@pytest.mark.parametrize("call", OF_A_RECORDER)
def test_of_a_recorder_f18(run: Run, call: str) -> None:
    """What was taken is in the file or counted as lost, and no thread is left."""
    run(RECORDER + OF_A_RECORDER[call])
