"""The table of a session's states, walked: every transition happens, and no other can."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import pytest
from conversation import HEARTBEAT, TRADES, Conversation, trade
from websocket_peer import accept, close, refuse, text

from coinapi_ws import SessionState
from coinapi_ws.events import Disconnected
from coinapi_ws.exceptions import ConnectError, UsageError
from coinapi_ws.protocol.states import TRANSITIONS, Step

Converse = Callable[..., Conversation]


def reach(talk: Conversation, state: SessionState) -> Conversation:
    if state is SessionState.CONNECTING:
        return talk.start()
    if state is SessionState.OPEN:
        return talk.upgrade()
    talk.live()
    if state is SessionState.CLOSING:
        talk.close()
    elif state is SessionState.CLOSED:
        talk.eof()
    return talk


#: What makes each step, from whichever state.
STEPS: dict[Step, Callable[[Conversation], object]] = {
    Step.UPGRADED: lambda talk: talk.receive(accept(talk.request)),
    Step.PROVEN: lambda talk: talk.say(HEARTBEAT),
    Step.CLOSE: lambda talk: talk.close(),
    Step.END: lambda talk: (talk.session.receive_eof(talk.now), talk.drain()),
}


@pytest.mark.parametrize(("state", "step"), TRANSITIONS)
def test_every_transition_of_the_table_happens(converse: Converse, state: SessionState, step: Step) -> None:
    talk = reach(converse(), state)
    assert talk.session.state is state
    STEPS[step](talk)
    assert talk.session.state is TRANSITIONS[state, step]


@pytest.mark.parametrize(("state", "step"), [pair for pair in product(SessionState, Step) if pair not in TRANSITIONS])
def test_no_other_transition_can_happen(converse: Converse, state: SessionState, step: Step) -> None:
    talk = reach(converse(), state)
    before = talk.kinds.count("Disconnected")
    STEPS[step](talk)
    if (state, step) == (SessionState.CONNECTING, Step.CLOSE):
        # There is no Close frame yet that could be sent, so this is the end.
        assert talk.session.state is TRANSITIONS[state, Step.END]
    elif (state, step) == (SessionState.CONNECTING, Step.PROVEN):
        # A frame where an answer should be is no answer.
        assert talk.session.state in (SessionState.CONNECTING, SessionState.CLOSED)
    elif step is Step.UPGRADED and state in (SessionState.OPEN, SessionState.LIVE, SessionState.CLOSING):
        # A second answer is read as frames, which it is not.
        assert talk.session.state is SessionState.CLOSED
        assert talk.closes[0][:2] in (b"\x03\xea", b"\x03\xe8")
    else:
        assert talk.session.state is state
        assert talk.kinds.count("Disconnected") == before


def test_the_table_has_one_start_and_one_end() -> None:
    reached = set(TRANSITIONS.values())
    assert SessionState.CONNECTING not in reached
    assert reached == set(SessionState) - {SessionState.CONNECTING}
    assert {state for state, step in TRANSITIONS if step is Step.END} == set(SessionState) - {SessionState.CLOSED}
    assert all(after is SessionState.CLOSED for (_, step), after in TRANSITIONS.items() if step is Step.END)


@pytest.mark.parametrize("state", SessionState)
def test_after_the_end_every_input_is_ignored_and_every_state_can_end(converse: Converse, state: SessionState) -> None:
    talk = reach(converse(), state)
    for again in (False, True):
        talk.session.lose(talk.now, "it broke", error_type=ConnectError)
        talk.session.receive_eof(talk.now)
        talk.session.receive_data(refuse("401 X") + text(trade()) + close(), talk.now, 0)
        talk.session.handle_timeout(talk.now + 1e9)
        talk.session.close(talk.now)
        with pytest.raises(UsageError):
            talk.set_scope(TRADES)
        items = talk.drain()
        endings = [item for item in items if isinstance(item, Disconnected)]
        assert len(endings) == (not again and state is not SessionState.CLOSED)
        assert items[:-1] == []
    assert talk.session.state is SessionState.CLOSED
    assert talk.session.next_timeout() is None
