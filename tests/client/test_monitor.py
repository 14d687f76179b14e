"""A lock that a Ctrl-C in a wait does not leave in the wrong state (F18)."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest
from builders import trade
from peers import PATIENCE_SECONDS

from coinapi_ws import Trade
from coinapi_ws.client.monitor import Monitor
from coinapi_ws.client.queueing import DeliveryQueue
from coinapi_ws.client.registry import Registry
from coinapi_ws.client.wakeup import Wakeup


def test_it_is_reentrant_and_knows_who_holds_it() -> None:
    monitor = Monitor()
    assert not monitor.is_held_here()
    seen: list[bool] = []
    with monitor.lock, monitor.lock:
        assert monitor.is_held_here()
        other = threading.Thread(target=lambda: seen.append(monitor.is_held_here()))
        other.start()
        other.join()
    assert seen == [False]
    assert not monitor.is_held_here()


def test_who_waits_lets_others_in_and_is_woken() -> None:
    monitor, woken = Monitor(), False

    def wake() -> None:
        nonlocal woken
        with monitor.lock:
            woken = True
            monitor.notify_all()

    other = threading.Thread(target=wake)
    with monitor.lock:
        other.start()
        while not woken:
            monitor.wait(PATIENCE_SECONDS)
        assert monitor.is_held_here()
    other.join()


@pytest.mark.parametrize("is_taken_back", [False, True])
def test_a_ctrl_c_in_a_wait_leaves_the_lock_with_who_waited_f18(
    is_taken_back: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F18: the condition may or may not have come to take it again."""
    monitor = Monitor()

    def interrupted(seconds: float) -> None:
        if not is_taken_back:
            monitor.lock.release()
        raise KeyboardInterrupt

    monkeypatch.setattr(monitor._condition, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt), monitor.lock:
        monitor.wait(1)
    assert not monitor.is_held_here()
    taken = threading.Thread(target=lambda: monitor.lock.acquire(timeout=PATIENCE_SECONDS))
    taken.start()
    taken.join()
    assert not monitor.lock.acquire(blocking=False)  # by the thread, so nobody held it any more


def queue_use() -> tuple[threading.RLock, Callable[[], None], Callable[[], None]]:
    queue = DeliveryQueue("pause", 1, 1, lambda: None)

    def use() -> None:
        queue.put([trade(1)], 1)
        queue.end_after_fork()
        assert queue.take(1) is None

    return queue._monitor.lock, queue.renew_lock, use


def registry_use() -> tuple[threading.RLock, Callable[[], None], Callable[[], None]]:
    registry = Registry()
    return registry._lock, registry.renew_lock, lambda: registry.add(Trade, id, None)


def wakeup_use() -> tuple[threading.RLock, Callable[[], None], Callable[[], None]]:
    wakeup = Wakeup()
    return wakeup._monitor.lock, wakeup.close_after_fork, wakeup.poke


@pytest.mark.parametrize("use", [queue_use, registry_use, wakeup_use])
def test_a_forked_child_gets_in_though_a_thread_of_the_parent_held_the_lock_f16(
    use: Callable[[], tuple[threading.RLock, Callable[[], None], Callable[[], None]]],
) -> None:
    """F16: that thread is not in the child and will not release it."""
    lock, renew, act = use()
    held, done = threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            held.set()
            assert done.wait(PATIENCE_SECONDS)

    parent = threading.Thread(target=hold)
    parent.start()
    assert held.wait(PATIENCE_SECONDS)
    renew()
    child = threading.Thread(target=act, daemon=True)
    child.start()
    child.join(PATIENCE_SECONDS)
    assert not child.is_alive()
    done.set()
    parent.join()


def test_a_signal_handler_can_tell_that_it_is_in_the_middle_f18() -> None:
    inside: list[bool] = []

    class Asked(DeliveryQueue):
        def _apply_policy(self) -> None:
            inside.append(self.is_held_here)

    queue = Asked("pause", 1, 1, lambda: None)
    queue.put([trade(1)], 1)
    assert inside == [True]
    assert not queue.is_held_here
    wakeup = Wakeup()
    assert not wakeup.is_held_here
    wakeup.close()
