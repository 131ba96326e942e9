"""The batching rules, one by one and then against a naive model of all of them."""

import gc
import time
import weakref
from collections.abc import Hashable
from typing import Any

import pytest

from serving.engine.batching.entries import Entry
from serving.engine.batching.queue import BatchQueue
from serving.errors import Overloaded
from serving.types import BatchPolicy, QueuePolicy, TimeoutAction
from tests.serving.engine.batching.policies import policy


def queue_of(policy: BatchPolicy, *rows: int, key: Hashable = "k") -> BatchQueue[int]:
    """Entries 0, 1, … of these row counts, which arrived at time 0, 1, …"""
    queue: BatchQueue[int] = BatchQueue(policy)
    for item, count in enumerate(rows):
        queue.push(Entry(item, count, key, at=item))
    return queue


def take(queue: BatchQueue[int], now: int = 100) -> list[int]:
    return [entry.item for entry in queue.take(now)[0]]


def test_without_a_delay_whatever_waits_runs_at_once() -> None:
    queue = queue_of(policy(), 1, 2)
    assert take(queue, now=1) == [0, 1]
    assert queue.take(1) == ([], None)


def test_rows_are_counted_and_not_requests() -> None:
    queue = queue_of(policy(max_rows=8), 5, 3, 1)
    assert take(queue) == [0, 1]
    assert take(queue) == [2]


def test_an_entry_that_does_not_fit_waits_and_nothing_overtakes_it() -> None:
    queue = queue_of(policy(max_rows=8), 5, 4, 3)
    assert take(queue) == [0]
    assert take(queue) == [1, 2]


def test_unequal_keys_are_never_merged_and_the_oldest_goes_first() -> None:
    queue: BatchQueue[int] = BatchQueue(policy())
    for item, key in enumerate("abab"):
        queue.push(Entry(item, 1, key, at=item))
    assert take(queue) == [0, 2]
    assert take(queue) == [1, 3]


def test_a_batch_waits_for_company_until_its_oldest_entry_has_waited_the_delay() -> None:
    queue = queue_of(policy(max_delay=50), 1, 1)
    assert queue.take(49) == ([], 50)
    assert take(queue, now=50) == [0, 1]


def test_a_full_batch_does_not_wait() -> None:
    assert take(queue_of(policy(max_rows=3, max_delay=50), 1, 1, 1), now=3) == [0, 1, 2]


def test_a_batch_into_which_the_next_does_not_fit_does_not_wait() -> None:
    queue = queue_of(policy(max_rows=3, max_delay=50), 2, 2)
    assert take(queue, now=3) == [0]
    assert queue.take(3) == ([], 51)


def test_a_preferred_size_runs_as_soon_as_it_is_reached() -> None:
    queue = queue_of(policy(preferred=(2, 4), max_delay=50), 1, 1)
    assert take(queue, now=2) == [0, 1]


def test_the_largest_preferred_size_that_is_there_runs() -> None:
    queue = queue_of(policy(preferred=(2, 4), max_delay=50), 2, 2, 1)
    assert take(queue, now=3) == [0, 1]
    assert queue.take(3) == ([], 52)


def test_beyond_the_largest_preferred_size_nothing_is_waited_for() -> None:
    queue = queue_of(policy(preferred=(4,), max_delay=50), 3, 2)
    assert take(queue, now=3) == [0]


def test_what_has_waited_its_delay_runs_in_the_largest_batch_and_not_in_a_preferred_one() -> None:
    queue = queue_of(policy(max_rows=8, preferred=(2,), max_delay=50), 1, 1, 1, 1, 1)
    assert take(queue, now=50) == [0, 1, 2, 3, 4]


def test_a_cancelled_neighbour_can_complete_a_preferred_size() -> None:
    queue = queue_of(policy(preferred=(4,), max_delay=50), 1, 1, 1)
    queue.push(Entry(3, 3, "k", at=3))
    assert queue.discard(1)
    assert queue.discard(2)
    assert take(queue, now=4) == [0, 3]


def test_a_full_key_yields_to_an_older_full_key() -> None:
    queue: BatchQueue[int] = BatchQueue(policy(max_rows=2, max_delay=50))
    for item, key in enumerate("abba"):
        queue.push(Entry(item, 1, key, at=item))
    assert take(queue, now=4) == [0, 3]
    assert take(queue, now=4) == [1, 2]


def test_the_rest_of_a_full_key_queues_up_behind_other_full_keys() -> None:
    queue: BatchQueue[int] = BatchQueue(policy(max_rows=2, max_delay=50))
    for item, key in enumerate("aabbaa"):
        queue.push(Entry(item, 1, key, at=item))
    assert [take(queue, now=6) for _ in range(3)] == [[0, 1], [2, 3], [4, 5]]


def test_full_keys_are_served_in_order_though_many_others_have_left() -> None:
    queue: BatchQueue[int] = BatchQueue(policy(max_rows=1, max_delay=10**6, max_queue=10**6))
    for item in range(400):
        queue.push(Entry(item, 1, item // 2, at=item))
    for item in range(400):
        if item % 8:
            queue.discard(item)
    assert [take(queue, now=400) for _ in range(50)] == [[item] for item in range(0, 400, 8)]


def test_without_merging_every_entry_runs_alone_and_at_once() -> None:
    queue = queue_of(policy(max_rows=8, merge=False, max_delay=50, preferred=(2,)), 1, 1)
    assert take(queue, now=2) == [0]
    assert take(queue, now=2) == [1]


def test_a_full_queue_refuses_in_the_words_of_triton() -> None:
    queue = queue_of(policy(max_queue=2), 1, 1)
    with pytest.raises(Overloaded, match=r"^Exceeds maximum queue size"):
        queue.push(Entry(2, 1, "k", at=2))
    assert (len(queue), queue.rows) == (2, 2)


def test_an_entry_larger_than_any_batch_is_a_bug_of_the_caller() -> None:
    with pytest.raises(ValueError, match="9 rows"):
        queue_of(policy(max_rows=8), 9)


def test_entries_without_rows_are_served_like_others() -> None:
    assert take(queue_of(policy(max_rows=1), 0, 1, 0)) == [0, 1, 2]


def test_a_deadline_that_passes_removes_the_entry() -> None:
    queue = queue_of(policy(), 1)
    queue.push(Entry(1, 1, "k", at=1, deadline=10))
    assert queue.expires_at == 10
    assert queue.expire(9) == []
    assert [entry.item for entry, _ in queue.expire(10)] == [1]
    assert take(queue) == [0]


def test_the_queue_timeout_rejects() -> None:
    queue = queue_of(policy(timeout=10, max_delay=50), 1)
    assert queue.take(5) == ([], 10)
    assert [entry.item for entry, _ in queue.expire(10)] == [0]
    assert queue.take(10) == ([], None)


@pytest.mark.parametrize(("allowed", "expires"), [(True, 3), (False, 10)])
def test_a_request_may_shorten_its_queue_timeout_where_the_policy_allows(
    allowed: bool, expires: int
) -> None:
    queue: BatchQueue[int] = BatchQueue(policy(timeout=10, allow_timeout_override=allowed))
    queue.push(Entry(0, 1, "k", at=0, queue_timeout=3))
    assert queue.expires_at == expires


def test_a_request_cannot_lengthen_its_queue_timeout() -> None:
    queue: BatchQueue[int] = BatchQueue(policy(timeout=10, allow_timeout_override=True))
    queue.push(Entry(0, 1, "k", at=0, queue_timeout=30))
    assert queue.expires_at == 10


def test_what_expires_is_found_though_many_others_have_left() -> None:
    queue: BatchQueue[int] = BatchQueue(policy(max_queue=10**6))
    for item in range(400):
        queue.push(Entry(item, 1, "k", at=0, deadline=item))
        if item % 8:
            queue.discard(item)
    assert [entry.item for entry, _ in queue.expire(1000)] == list(range(0, 400, 8))


def delaying(**rest: Any) -> BatchPolicy:
    return policy(timeout=10, timeout_action=TimeoutAction.DELAY, **rest)


def test_what_is_delayed_runs_behind_everything_punctual() -> None:
    queue = queue_of(delaying(max_rows=1), 1, 1)
    queue.push(Entry(2, 1, "k", at=9))
    assert queue.expire(11) == []
    assert [take(queue), take(queue), take(queue)] == [[2], [0], [1]]


def test_what_is_delayed_fills_up_a_batch_of_its_key() -> None:
    queue = queue_of(delaying(max_rows=2), 1)
    queue.push(Entry(1, 1, "k", at=9))
    queue.expire(11)
    assert take(queue) == [1, 0]


def test_a_newcomer_ahead_of_what_is_delayed_can_complete_a_preferred_size() -> None:
    queue = queue_of(delaying(preferred=(1, 4), max_delay=50), 2)
    queue.expire(10)
    queue.push(Entry(1, 1, "k", at=11))
    assert take(queue, now=11) == [1]


def test_a_full_key_stays_full_when_a_newcomer_goes_ahead_of_what_is_delayed() -> None:
    queue = queue_of(delaying(max_rows=2, max_delay=50), 2)
    queue.expire(10)
    queue.push(Entry(1, 1, "k", at=11))
    assert [take(queue, now=11), take(queue, now=11)] == [[1], [0]]


def test_what_is_delayed_still_expires_by_its_deadline() -> None:
    queue: BatchQueue[int] = BatchQueue(delaying())
    queue.push(Entry(0, 1, "k", at=0, deadline=30))
    assert queue.expire(10) == []
    assert queue.expires_at == 30
    assert [entry.item for entry, _ in queue.expire(30)] == [0]


def levels(**rest: Any) -> BatchPolicy:
    return policy(priority_levels=3, default_level=2, **rest)


def queue_of_levels(policy: BatchPolicy, *levels: int, key: Hashable = "k") -> BatchQueue[int]:
    """Entries 0, 1, … of one row at these levels, which arrived at time 0, 1, …"""
    queue: BatchQueue[int] = BatchQueue(policy)
    for item, level in enumerate(levels):
        queue.push(Entry(item, 1, key, at=item, priority=level))
    return queue


def test_a_higher_level_goes_first_and_inside_a_level_the_order_of_arrival_holds() -> None:
    queue = queue_of_levels(levels(max_rows=1), 3, 2, 1, 3, 2, 1)
    assert [take(queue) for _ in range(6)] == [[2], [5], [1], [4], [0], [3]]


def test_a_batch_mixes_levels() -> None:
    queue = queue_of_levels(levels(max_rows=3), 3, 2, 2, 1)
    assert take(queue) == [3, 1, 2]
    assert take(queue) == [0]


def test_entries_of_all_levels_together_complete_a_preferred_size() -> None:
    queue = queue_of_levels(levels(preferred=(3,), max_delay=50), 3, 1)
    assert take(queue, now=2) == []
    queue.push(Entry(2, 1, "k", at=2, priority=2))
    assert take(queue, now=2) == [1, 2, 0]


def test_a_newcomer_of_a_higher_level_can_make_a_full_key_smaller() -> None:
    queue: BatchQueue[int] = BatchQueue(levels(preferred=(4,), max_delay=50))
    queue.push(Entry(0, 4, "k", at=0, priority=2))
    queue.push(Entry(1, 2, "k", at=1, priority=1))
    assert take(queue, now=1) == [1]
    assert take(queue, now=1) == [0]


def test_of_two_full_keys_the_one_with_the_higher_level_goes_first() -> None:
    queue: BatchQueue[int] = BatchQueue(levels(max_rows=2, max_delay=50))
    for item, (key, level) in enumerate([("a", 2), ("a", 2), ("b", 2), ("b", 1)]):
        queue.push(Entry(item, 1, key, at=item, priority=level))
    assert [take(queue, now=3), take(queue, now=3)] == [[3, 2], [0, 1]]


def test_a_low_level_that_has_waited_its_delay_runs_behind_the_higher_ones_of_its_key() -> None:
    queue = queue_of_levels(levels(max_delay=50), 3)
    queue.push(Entry(1, 1, "k", at=49, priority=1))
    assert queue.take(49) == ([], 50)
    assert take(queue, now=50) == [1, 0]


def test_what_is_delayed_still_goes_before_a_lower_level() -> None:
    queue = queue_of_levels(
        levels(max_rows=1, timeout=10, timeout_action=TimeoutAction.DELAY), 1, 1, 2
    )
    queue.push(Entry(3, 1, "k", at=9, priority=1))
    queue.push(Entry(4, 1, "k", at=11, priority=2))
    assert queue.expire(11) == []
    assert [take(queue, now=11) for _ in range(5)] == [[3], [0], [1], [2], [4]]


def test_each_level_has_a_queue_policy_of_its_own() -> None:
    strict = QueuePolicy(max_queue=1, timeout=5)
    queue = queue_of_levels(levels(level_queues={1: strict}), 1, 2, 2)
    with pytest.raises(Overloaded, match="Exceeds maximum queue size of 1 requests"):
        queue.push(Entry(3, 1, "k", at=3, priority=1))
    assert [entry.item for entry, _ in queue.expire(5)] == [0]
    assert take(queue) == [1, 2]


@pytest.mark.parametrize(("priority", "level"), [(0, 2), (1, 1), (3, 3), (4, 2), (2**64 - 1, 2)])
def test_a_priority_that_is_not_a_level_means_the_default(priority: int, level: int) -> None:
    assert levels().level(priority) == level


def test_without_levels_all_priorities_are_equal() -> None:
    assert policy().level(1) == policy().level(0) == 0


def test_flushing_ends_all_waiting_for_company() -> None:
    queue = queue_of(policy(max_delay=50), 1)
    queue.flush()
    assert take(queue, now=1) == [0]


def test_discarding_says_whether_the_entry_still_waited() -> None:
    queue = queue_of(policy(), 1)
    assert queue.discard(0)
    assert not queue.discard(0)
    assert len(queue) == queue.rows == 0


class _Request:
    """Something that can be weakly referred to."""


@pytest.mark.parametrize("way", ["take", "discard", "expire"])
def test_nothing_holds_on_to_a_request_that_has_left(way: str) -> None:
    queue: BatchQueue[_Request] = BatchQueue(policy(max_delay=5, preferred=(1,)))
    request = _Request()
    gone = weakref.ref(request)
    queue.push(Entry(request, 1, "k", at=0, deadline=1000))
    if way == "discard":
        queue.discard(request)
    else:
        getattr(queue, way)(1000)
    del request
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize("max_delay", [0, 10**9])
def test_the_cost_of_an_entry_does_not_grow_with_the_number_of_keys(max_delay: int) -> None:
    def cost(keys: int) -> float:
        queue: BatchQueue[int] = BatchQueue(policy(2, 2 * keys, max_delay=max_delay))
        start = time.process_time()
        for item in range(2 * keys):
            queue.push(Entry(item, 1, item % keys, at=item, deadline=10**10 + item % 7))
        while queue:
            assert len(queue.take(2 * keys)[0]) == 2
        return (time.process_time() - start) / keys

    few, many = (min(cost(keys) for _ in range(3)) for keys in (500, 8000))
    assert many < 6 * few  # Quadratic would be 16 times.
