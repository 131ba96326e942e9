"""No batch waits for company so long that one of its answers would come too late."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from serving.engine.batching.entries import Entry
from serving.engine.batching.queue import BatchQueue
from serving.engine.batching.strategies import Direct, Oldest
from serving.engine.batching.urgency import Urgency
from serving.types import BatchPolicy, SequencePolicy
from tests.serving.engine.batching.policies import policy

DELAY = 1000


def ten_a_row(rows: int) -> int:
    """A batch has to start 10 ns before its answers are due for each of its rows."""
    return 10 * rows


def queue_of(*entries: Entry[int], **rest: Any) -> BatchQueue[int]:
    queue: BatchQueue[int] = BatchQueue(policy(max_delay=DELAY, **rest), ten_a_row)
    for entry in entries:
        queue.push(entry)
    return queue


def take(queue: BatchQueue[int], now: int) -> list[int]:
    return [entry.item for entry in queue.take(now)[0]]


def test_a_batch_starts_before_its_answer_is_due_and_not_sooner() -> None:
    queue = queue_of(Entry(0, 1, "k", at=0, due=500))
    assert queue.take(489) == ([], 490)
    assert take(queue, 490) == [0]


def test_the_earliest_answer_of_a_batch_decides_and_all_of_it_runs() -> None:
    queue = queue_of(
        Entry(0, 1, "k", at=0),
        Entry(1, 1, "k", at=1, due=900),
        Entry(2, 1, "k", at=2, due=500),
    )
    assert queue.take(469) == ([], 470)
    assert take(queue, 470) == [0, 1, 2]


def test_a_batch_that_grows_starts_sooner_and_one_that_shrinks_later() -> None:
    queue = queue_of(Entry(0, 1, "k", at=0, due=500))
    queue.push(Entry(1, 4, "k", at=1))
    assert queue.take(2) == ([], 450)
    queue.discard(1)
    assert queue.take(3) == ([], 490)


def test_when_the_one_who_was_in_a_hurry_leaves_the_others_wait_on() -> None:
    queue = queue_of(Entry(0, 1, "k", at=0), Entry(1, 1, "k", at=1, due=500))
    queue.discard(1)
    assert queue.take(500) == ([], DELAY)


def test_the_delay_ends_the_wait_where_it_ends_first() -> None:
    queue = queue_of(Entry(0, 1, "k", at=0, due=5000))
    assert queue.take(999) == ([], DELAY)
    assert take(queue, DELAY) == [0]


def test_a_full_batch_does_not_wait_for_what_is_due() -> None:
    queue = queue_of(*(Entry(item, 4, "k", at=0, due=500) for item in range(2)))
    assert take(queue, 0) == [0, 1]


def test_what_cannot_be_in_time_any_more_runs_at_once() -> None:
    queue = queue_of(Entry(0, 1, "k", at=0, due=5))
    assert take(queue, 0) == [0]


def test_of_two_keys_the_one_that_has_to_start_first_does_though_it_is_due_later() -> None:
    queue = queue_of(
        Entry(0, 1, "small", at=0, due=500),
        Entry(1, 7, "large", at=0, due=520),
    )
    assert queue.take(449) == ([], 450)
    assert take(queue, 450) == [1]
    assert queue.take(451) == ([], 490)


def test_an_older_key_that_has_waited_goes_before_one_that_is_pressed_for_time() -> None:
    queue = queue_of(
        Entry(0, 1, "old", at=0),
        Entry(1, 1, "new", at=900, due=DELAY),
    )
    assert take(queue, DELAY) == [0]
    assert take(queue, DELAY) == [1]


def test_a_higher_level_that_is_pressed_for_time_goes_before_a_lower_one_that_has_waited() -> None:
    queue = queue_of(
        Entry(0, 1, "low", at=0, priority=2),
        Entry(1, 1, "high", at=900, priority=1, due=DELAY),
        priority_levels=2,
        default_level=2,
    )
    assert take(queue, DELAY) == [1]
    assert take(queue, DELAY) == [0]


def test_without_a_delay_nothing_changes() -> None:
    queue: BatchQueue[int] = BatchQueue(policy(max_rows=1), ten_a_row)
    for item, due in enumerate((900, 500)):
        queue.push(Entry(item, 1, "k", at=item, due=due))
    assert take(queue, 1) == [0]
    assert queue.take(2)[0][0].item == 1


def test_flushing_ends_this_wait_too() -> None:
    queue = queue_of(Entry(0, 1, "k", at=0, due=500))
    queue.flush()
    assert take(queue, 1) == [0]


def offers(strategy: Direct | Oldest, due: int) -> Direct | Oldest:
    strategy.offer(0, Entry("s", 1, "k", at=0), 0)
    strategy.offer(2, Entry("t", 1, "k", at=0, due=due), 0)
    return strategy


def test_sequences_of_the_direct_strategy_are_answered_in_time() -> None:
    half = SequencePolicy(slots=8, max_idle=1, max_queue=8, max_delay=DELAY, utilization=0.5)
    strategy = offers(Direct(half, ten_a_row), due=500)
    # The third slot is the third row, whoever is in the second.
    assert strategy.take(469) == ([], 470)
    assert strategy.take(470)[0] == [0, 2]


def test_sequences_of_the_oldest_strategy_are_answered_in_time() -> None:
    strategy = offers(Oldest(policy(max_delay=DELAY), 8, ten_a_row), due=500)
    assert strategy.take(479) == ([], 480)
    assert strategy.take(480)[0] == [0, 2]


@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.integers(0, 100), st.integers(1, 4), st.booleans()),
        max_size=30,
    ),
    st.integers(0, 120),
)
def test_what_presses_is_what_a_search_through_everything_finds(
    steps: list[tuple[str, int, int, bool]], now: int
) -> None:
    urgency: Urgency[str, int] = Urgency(ten_a_row)
    members: dict[int, tuple[str, int, int, int]] = {}  # group, due, ticket, rows
    rows = dict.fromkeys("abc", 0)
    for member, (group, due, count, leaves) in enumerate(steps):
        mine = [known for known, one in members.items() if one[0] == group]
        if leaves and mine:
            _, _, ticket, size = members.pop(mine[0])
            urgency.remove(group, ticket)
            rows[group] -= size
        else:
            members[member] = group, due, urgency.add(group, member, due), count
            rows[group] += count
        urgency.judge(group, rows[group])
    starts = {
        group: min(one[1] for one in members.values() if one[0] == group) - 10 * rows[group]
        for group in {one[0] for one in members.values()}
    }
    assert urgency.next_at == min(starts.values(), default=None)
    pressing = urgency.pressing(now)
    if min(starts.values(), default=now + 1) > now:
        assert pressing is None
    else:
        assert pressing is not None
        group, first = pressing
        assert starts[group] == min(starts.values())
        assert members[first][1] == min(one[1] for one in members.values() if one[0] == group)


def test_a_policy_without_company_asks_for_no_time() -> None:
    alone = BatchPolicy(8, policy().queue, merge=False, max_delay=DELAY)
    queue: BatchQueue[int] = BatchQueue(alone, ten_a_row)
    queue.push(Entry(0, 1, "k", at=0, due=500))
    assert take(queue, 0) == [0]
