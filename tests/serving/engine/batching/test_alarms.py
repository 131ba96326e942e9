"""The alarms of the queues, against a list that is searched."""

from hypothesis import given
from hypothesis import strategies as st

from serving.engine.batching.alarms import Alarms


def test_the_earliest_alarm_goes_off_first_and_stays_until_it_is_cancelled() -> None:
    alarms: Alarms[str] = Alarms()
    alarms.set("late", 7)
    ticket = alarms.set("early", 3)
    assert (alarms.next_at, alarms.due(2), alarms.due(3)) == (3, None, (3, "early"))
    alarms.cancel(ticket)
    assert (alarms.due(6), alarms.due(7)) == (None, (7, "late"))


def test_without_alarms_nothing_is_ever_due() -> None:
    alarms: Alarms[str] = Alarms()
    assert (alarms.next_at, alarms.due(10**18)) == (None, None)


@given(st.lists(st.tuples(st.integers(0, 9), st.booleans()), max_size=200))
def test_whatever_is_not_cancelled_goes_off_in_order(given_: list[tuple[int, bool]]) -> None:
    alarms: Alarms[int] = Alarms()
    tickets = [alarms.set(who, when) for who, (when, _) in enumerate(given_)]
    for ticket, (_, cancelled) in zip(tickets, given_, strict=True):
        if cancelled:
            alarms.cancel(ticket)
    expected = sorted((when, who) for who, (when, cancelled) in enumerate(given_) if not cancelled)
    gone = []
    while (alarm := alarms.due(9)) is not None:
        gone.append(alarm)
        alarms.cancel(tickets[alarm[1]])
    assert gone == expected
