"""Recorders in processes that are killed, forked, or end without closing; and on a disk that is full."""

from __future__ import annotations

import os
import re
import sys
import warnings
from pathlib import Path
from typing import Final

import pytest
from programs import finished, read_line, running, write_flood

from coinapi_ws.recording import Recorder, RecordingError, RecordingWarning, read_recording
from coinapi_ws.recording.reading import read_entries
from coinapi_ws.simulator import Simulator

NAMES: Final = ["a.jsonl", "a.jsonl.gz", "a.jsonl.zst"]
HEAD: Final = """
from coinapi_ws.recording import Recorder
"""


def sequences(path: Path) -> list[int]:
    """Those of the trades in a recording, whose end may be cut off."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RecordingWarning)
        return [int(found[1]) for _, frame in read_recording(path) if (found := re.search(r'"sequence":(\d+)', frame))]


@pytest.fixture(params=NAMES)
def path(tmp_path: Path, request: pytest.FixtureRequest) -> Path:
    """A recording that is not there yet, of each kind."""
    return Path(tmp_path / request.param)


def test_a_killed_process_leaves_whole_lines_up_to_the_last_flush(path: Path, canary_key: str) -> None:
    program = f"""{HEAD}
recorder = Recorder({str(path)!r}, flush_seconds=0.05)
client = live_client(tap=recorder.take, request_heartbeats=False)
for _ in range(2000):  # should nothing come
    say(recorder.written)
    time.sleep(0.02)
"""
    with Simulator(activity=300) as simulator, running(program, simulator.url, canary_key) as child:
        written = 0
        while written < 500:
            written = int(read_line(child))
        child.kill()
        child.wait()
    found = sequences(path)
    assert len(found) >= written
    assert found == list(range(1, len(found) + 1))
    text = path.read_bytes()
    assert path.suffix != ".jsonl" or text.endswith(b"\n") or text.rpartition(b"\n")[2].startswith(b'{"received_ns"')


def test_a_process_that_is_killed_at_once_leaves_what_can_be_read(path: Path, canary_key: str) -> None:
    """Again and again, at moments by chance: whole lines in order, and at most a warning."""
    program = f"""{HEAD}
recorder = Recorder(sys.argv[2], flush_seconds=0.001)
client = live_client(tap=recorder.take, request_heartbeats=False)
threading.Timer(random.random() * 0.2, os.kill, (os.getpid(), signal.SIGKILL)).start()
threading.Event().wait()
"""
    with Simulator(activity=1000) as simulator:
        for number in range(2):
            made = path.with_name(f"{number}-{path.name}")
            done = finished(program.replace("sys.argv[2]", repr(str(made))), simulator.url, canary_key)
            assert done.returncode == -9, done.stderr
            found = sequences(made)
            assert found == list(range(1, len(found) + 1))


@pytest.mark.skipif(sys.platform == "win32", reason="no limit of a file's size there")
def test_a_full_disk_ends_the_recording_and_not_the_client(path: Path, canary_key: str) -> None:
    program = f"""{HEAD}
import logging, resource
_, most = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, most))
logging.basicConfig(stream=sys.stdout, format="%(message)s")
errors = []
def fail(error):
    errors.append(error)
    recorder.close()  # does not wait for itself
    1 / 0  # is logged
recorder = Recorder({str(path)!r}, flush_seconds=0.01, on_error=fail)
client = live_client(tap=recorder.take, request_heartbeats=False)
while recorder.error is None:
    time.sleep(0.01)
before = client.stats().delivered
while client.stats().delivered < before + 100:
    time.sleep(0.01)
client.close()
assert errors == [recorder.error], errors
total = sum(client.stats().messages.values())
assert recorder.written + recorder.lost == total, (recorder.written, recorder.lost, total)
assert recorder.lost > 0
try:
    recorder.close()
except OSError as error:
    say(f"raised {{error.strerror}}, {{recorder.written}} written")
recorder.close()
resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))  # for who writes at the end, such as a measuring of coverage
"""
    with Simulator(activity=1000) as simulator:
        done = finished(program, simulator.url, canary_key)
    assert (done.returncode, done.stderr) == (0, "")
    logged, *failed, raised = done.stdout.splitlines()
    assert re.fullmatch(rf"the recording {re.escape(str(path))} ended: .*File too large", logged)
    assert (failed[0], failed[-1]) == ("on_error of a recorder failed", "ZeroDivisionError: division by zero")
    written = int(re.fullmatch(r"raised File too large, (\d+) written", raised)[1])  # type: ignore[index]
    assert len(sequences(path)) >= written
    assert path.stat().st_size == 20_000


def test_what_was_left_open_is_written_at_the_end(path: Path, canary_key: str, tmp_path: Path) -> None:
    program = f"""{HEAD}
recorder = Recorder({str(path)!r}, flush_seconds=3600)
for item in connect(None, TRADES, endpoint=sys.argv[1], tap=recorder.take):
    pass
"""
    with Simulator(recording=write_flood(tmp_path / "flood.jsonl"), speed=None) as simulator:
        done = finished(program, simulator.url, canary_key)
    assert (done.returncode, done.stderr) == (0, "")
    assert sequences(path) == list(range(1, 2001))
    assert [entry.event for entry in read_entries(path) if entry.event] == ["Connected", "Disconnected"]


def test_what_an_open_client_brings_until_its_end_is_written(path: Path, canary_key: str) -> None:
    program = f"""{HEAD}
recorder = Recorder({str(path)!r}, flush_seconds=3600)
client = live_client(tap=recorder.take, request_heartbeats=False)
"""
    with Simulator(activity=300) as simulator:
        done = finished(program, simulator.url, canary_key)
    assert (done.returncode, done.stderr) == (0, "")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # it is whole
        found = list(read_entries(path))
    assert [entry.event for entry in found if entry.event] == ["Connected", "Disconnected"]
    assert len(found) > 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_leaves_the_recording_to_its_parent(path: Path, canary_key: str) -> None:
    program = f"""{HEAD}
warnings.simplefilter("ignore", DeprecationWarning)  # of a fork with threads
recorder = Recorder({str(path)!r}, flush_seconds=0.01)
client = live_client(tap=recorder.take, request_heartbeats=False)
for _ in range(3):
    child = os.fork()
    if not child:
        recorder.close()
        del client, recorder
        gc.collect()
        sys.exit(0)
    assert os.waitpid(child, 0)[1] == 0
    before = recorder.written
    while recorder.written < before + 50:
        time.sleep(0.01)
client.close()
recorder.close()
say(recorder.written)
"""
    with Simulator(activity=1000) as simulator:
        done = finished(program, simulator.url, canary_key)
    assert (done.returncode, done.stderr) == (0, "")
    found = sequences(path)
    assert found == list(range(1, len(found) + 1))
    assert len(found) == int(done.stdout)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_keeps_nothing_of_what_it_has_itself(path: Path, canary_key: str) -> None:
    program = f"""{HEAD}
from coinapi_ws.protocol.frames import Frames
warnings.simplefilter("ignore", DeprecationWarning)  # of a fork with threads
recorder = Recorder({str(path)!r})
go_on, is_held = threading.Event(), threading.Event()
def hold():
    with recorder._monitor.lock:  # as a connection's thread may when the process is forked
        is_held.set()
        go_on.wait()
holder = threading.Thread(target=hold)
holder.start()
is_held.wait()
child = os.fork()
if not child:
    signal.alarm(50)  # should it hang
    connection = SelectorConnection(Options(endpoint=endpoint_from(sys.argv[1])), Scope(TRADES))
    recorder.take(connection, [Frames(1, [], ["x", "y"])])
    recorder.close()
    os._exit(recorder.lost)
go_on.set()
holder.join()
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 2
recorder.close()
assert recorder.lost == 0
"""
    done = finished(program, "ws://127.0.0.1:1/", canary_key)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.skipif(sys.platform == "win32", reason="no limit of a file's size there")
def test_close_waits_again_after_a_ctrl_c_f18(tmp_path: Path, canary_key: str) -> None:
    """Before CPython 3.13 a ``join`` that was cut takes the thread for ended."""
    program = f"""{HEAD}
import resource
from coinapi_ws.protocol.frames import Frames
_, most = resource.getrlimit(resource.RLIMIT_FSIZE)
resource.setrlimit(resource.RLIMIT_FSIZE, (0, most))
go_on = threading.Event()
recorder = Recorder({str(tmp_path / "a.jsonl")!r}, on_error=lambda error: go_on.wait())
connection = SelectorConnection(Options(endpoint=endpoint_from(sys.argv[1])), Scope(TRADES))
recorder.take(connection, [Frames(1, [], ["x"])])

def is_closing(frame):
    return frame is not None and (frame.f_code is Recorder.close.__code__ or is_closing(frame.f_back))
def interrupt():
    while not is_closing(sys._current_frames()[threading.main_thread().ident]):
        time.sleep(0.001)
    time.sleep(0.05)  # so that it waits
    os.kill(os.getpid(), signal.SIGINT)
threading.Thread(target=interrupt).start()
try:
    recorder.close()
except KeyboardInterrupt:
    say("cut")
threading.Timer(0.2, go_on.set).start()
try:
    recorder.close()
except OSError as error:
    say(f"{{error.strerror}}, {{go_on.is_set()}}")
resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))  # for who writes at the end, such as a measuring of coverage
"""
    done = finished(program, "ws://127.0.0.1:1/", canary_key)
    assert (done.returncode, done.stdout) == (0, "cut\nFile too large, True\n"), done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="no limit of a file's size there")
def test_after_an_error_of_the_disk_a_writer_writes_nothing_that_cannot_be_read(path: Path, canary_key: str) -> None:
    program = f"""
import resource
from coinapi_ws.recording import RecordingWriter
_, most = resource.getrlimit(resource.RLIMIT_FSIZE)
writer = RecordingWriter({str(path)!r})
resource.setrlimit(resource.RLIMIT_FSIZE, (1010, most))
written = 0
for number in range(500):
    if number == 400:  # there is room again
        resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
    try:
        writer.write("x" * 100, number)
        writer.flush()
        written += 1
    except OSError:
        pass
writer.close()
say(written)
"""
    done = finished(program, "ws://127.0.0.1:1/", canary_key)
    assert (done.returncode, done.stderr) == (0, "")
    with pytest.warns(RecordingWarning):
        found = [received_ns for received_ns, _ in read_recording(path)]
    assert found == list(range(int(done.stdout)))
    assert 0 < len(found) < 400


def test_a_directory_that_cannot_be_written_to_is_told_at_once(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Recorder(tmp_path / "no" / "such.jsonl")


def test_a_cut_of_a_recording_at_any_byte_is_its_beginning(path: Path, canary_key: str, tmp_path: Path) -> None:
    program = f"""{HEAD}
with Recorder({str(path)!r}, flush_seconds=0.001) as recorder:
    list(connect(None, TRADES, endpoint=sys.argv[1], tap=recorder.take))
"""
    with Simulator(recording=write_flood(tmp_path / "flood.jsonl"), speed=None) as simulator:
        assert finished(program, simulator.url, canary_key).returncode == 0
    whole = path.read_bytes()
    for size in range(0, len(whole), len(whole) // 50):
        path.write_bytes(whole[:size])
        try:
            found = sequences(path)
        except RecordingError:  # where not even the header is whole
            assert size < 20
            continue
        assert found == list(range(1, len(found) + 1))
