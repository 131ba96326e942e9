"""The rules of sequences, one by one and then all together."""

import gc
import tracemalloc
import weakref
from collections.abc import Hashable
from typing import Any

import pytest

from serving.engine.batching.entries import Entry, Step
from serving.engine.batching.sequencer import Sequencer
from serving.errors import (
    Cancelled,
    DeadlineExceeded,
    InvalidArgument,
    Overloaded,
    ServingError,
    Unavailable,
)
from serving.types import SequencePolicy
from tests.serving.engine.batching.policies import policy

IDLE = 1000


def sequences(slots: int = 2, max_queue: int = 100, **rest: Any) -> SequencePolicy:
    return SequencePolicy(slots, max_idle=IDLE, max_queue=max_queue, **rest)


def oldest(slots: int = 3, **rest: Any) -> SequencePolicy:
    return sequences(slots, merge=policy(max_rows=2, **rest))


class Driver:
    """A sequencer whose requests are written as `a(` for a START, `a` and `a)` for an END."""

    def __init__(self, policy: SequencePolicy, instances: int = 1) -> None:
        self.queue: Sequencer[str] = Sequencer(policy, instances, "m")
        self.steps: dict[str, Step] = {}

    def push(self, request: str, at: int = 0, key: Hashable = "k", **rest: Any) -> None:
        """The item is the request itself; digits tell equal ones apart, as in `a1`."""
        step = Step(request[0], "(" in request, ")" in request)
        self.queue.push(Entry(request, 1, key, at, step=step, **rest))
        self.steps[request] = step

    def take(self, now: int = 0, instance: int = 0) -> list[str]:
        entries, _ = self.queue.take(now, instance)
        return [entry.item for entry in entries]

    def has_sequences(self) -> bool:
        return self.queue.has_sequences

    def slots(self, *requests: str) -> list[int]:
        return [self.steps[request].slot for request in requests]

    def expire(self, now: int) -> list[tuple[str, type[ServingError]]]:
        return [(entry.item, type(error)) for entry, error in self.queue.expire(now)]


def test_a_sequence_begins_with_a_start_or_is_refused_in_the_words_of_triton() -> None:
    driver = Driver(sequences())
    with pytest.raises(InvalidArgument) as refused:
        driver.push("a")
    assert refused.value.message == (
        "inference request for sequence a to model 'm' must specify the START flag on the first "
        "request of the sequence"
    )


def test_requests_of_a_sequence_run_one_after_the_other_in_the_order_of_arrival() -> None:
    driver = Driver(sequences())
    for request in ("a(", "a1", "a)"):
        driver.push(request)
    assert [driver.take() for _ in range(4)] == [["a("], ["a1"], ["a)"], []]


def test_a_sequence_that_has_ended_must_begin_again() -> None:
    driver = Driver(sequences())
    driver.push("a()")
    with pytest.raises(InvalidArgument):
        driver.push("a")
    driver.push("a(")
    assert driver.take() == ["a()", "a("]


def test_sequences_run_together_each_in_the_row_of_its_slot() -> None:
    driver = Driver(sequences(slots=3))
    for request in ("a(", "b(", "c("):
        driver.push(request)
    assert driver.take() == ["a(", "b(", "c("]
    for request in ("c)", "a1"):
        driver.push(request)
    assert driver.take() == ["a1", "c)"]
    assert driver.slots("a1", "c)") == [0, 2]


def test_sequences_spread_over_the_instances_and_stay_there() -> None:
    driver = Driver(sequences(), instances=2)
    for request in ("a(", "b(", "c(", "a1", "b1"):
        driver.push(request)
    assert driver.take(instance=0) == ["a(", "c("]
    assert driver.take(instance=1) == ["b("]
    assert driver.take(instance=0) == ["a1"]
    assert driver.take(instance=1) == ["b1"]


def test_slots_that_are_never_taken_take_no_memory() -> None:
    tracemalloc.start()
    try:
        driver = Driver(sequences(slots=100_000), instances=2)
        for request in ("a(", "b(", "c(", "a)"):
            driver.push(request)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()
    assert driver.take(instance=0) == ["a(", "c("]
    assert driver.take(instance=0) == ["a)"]
    # What was given back is taken before what never was.
    driver.push("d(")
    assert driver.take(instance=0) == ["d("]
    assert driver.slots("a(", "c(", "d(") == [0, 1, 0]


def test_what_finds_no_slot_waits_until_a_sequence_ends_in_the_order_of_its_start() -> None:
    driver = Driver(sequences(slots=1))
    for request in ("a(", "b(", "c()", "b1", "a)", "b)"):
        driver.push(request)
    assert [driver.take() for _ in range(7)] == [
        ["a("],
        ["a)"],
        ["b("],
        ["b1"],
        ["b)"],
        ["c()"],
        [],
    ]


def test_unequal_keys_do_not_run_together_and_the_oldest_request_goes_first() -> None:
    driver = Driver(sequences(slots=3))
    driver.push("a(", at=2, key="x")
    driver.push("b(", at=3, key="y")
    driver.push("c(", at=4, key="x")
    assert driver.take(now=5) == ["a(", "c("]
    driver.push("a1", at=6, key="x")
    assert driver.take(now=7) == ["b("]
    assert driver.take(now=8) == ["a1"]


def test_a_start_begins_a_sequence_anew_in_its_slot_behind_what_waits() -> None:
    driver = Driver(sequences())
    for request in ("a(", "a1", "a(2", "a)"):
        driver.push(request)
    assert [driver.take() for _ in range(4)] == [["a("], ["a1"], ["a(2"], ["a)"]]
    assert driver.slots("a(", "a1", "a(2", "a)") == [0, 0, 0, 0]


def test_a_full_queue_refuses_without_a_gap_in_the_sequence() -> None:
    driver = Driver(sequences(max_queue=1))
    driver.push("a(")
    with pytest.raises(Overloaded, match=r"^Exceeds maximum queue size of 1 requests$"):
        driver.push("a1")
    assert driver.take() == ["a("]
    driver.push("a1")
    assert driver.take() == ["a1"]


def test_a_sequence_that_has_nothing_to_do_for_too_long_loses_its_slot_to_the_next() -> None:
    driver = Driver(sequences(slots=1))
    driver.push("a(")
    driver.push("b(")
    assert driver.take(now=10) == ["a("]
    assert driver.take(now=20) == []
    assert driver.queue.expires_at == 20 + IDLE
    assert driver.expire(20 + IDLE) == []
    assert driver.take(now=20 + IDLE) == ["b("]
    with pytest.raises(InvalidArgument):
        driver.push("a", at=20 + IDLE)


def test_a_sequence_whose_request_runs_or_waits_is_not_idle() -> None:
    driver = Driver(sequences(slots=1))
    driver.push("a(")
    assert driver.take(now=0) == ["a("]
    assert driver.expire(5 * IDLE) == []  # It runs that long.
    assert driver.take(now=5 * IDLE) == []
    driver.push("a1", at=5 * IDLE + 1)
    assert driver.expire(9 * IDLE) == []
    assert driver.take(now=9 * IDLE) == ["a1"]


def test_a_gap_ends_the_sequence_and_refuses_what_is_behind_it() -> None:
    driver = Driver(sequences(slots=1))
    for request in ("a(", "a1", "a2", "b("):
        driver.push(request)
    assert driver.take() == ["a("]
    assert driver.queue.discard("a1")
    assert driver.expire(0) == [("a2", Cancelled)]
    with pytest.raises(InvalidArgument):
        driver.push("a3")
    assert driver.take() == ["b("]


def test_a_gap_reaches_up_to_the_next_start() -> None:
    driver = Driver(sequences(slots=1))
    for request in ("a(", "a1", "a(2", "a3"):
        driver.push(request)
    assert driver.queue.discard("a(")
    assert driver.expire(0) == [("a1", Cancelled)]
    assert [driver.take() for _ in range(2)] == [["a(2"], ["a3"]]


def test_what_is_before_a_gap_still_runs() -> None:
    driver = Driver(sequences(slots=1))
    for request in ("a(", "a1", "a2", "b("):
        driver.push(request)
    driver.queue.discard("a1")
    assert driver.expire(0) == [("a2", Cancelled)]
    assert [driver.take() for _ in range(2)] == [["a("], ["b("]]


def test_a_deadline_that_passes_leaves_a_gap() -> None:
    driver = Driver(sequences(slots=1))
    driver.push("a(", deadline=5)
    driver.push("a1")
    assert driver.queue.expires_at == 5
    assert driver.expire(5) == [("a(", DeadlineExceeded), ("a1", Cancelled)]
    assert len(driver.queue) == driver.queue.rows == 0


def test_a_timeout_ends_a_sequence_that_still_waits_for_a_slot() -> None:
    driver = Driver(sequences(slots=1))
    driver.push("a(")
    driver.push("b(", queue_timeout=50)
    driver.push("b1", at=1, queue_timeout=9)
    driver.push("c(", at=2)
    assert driver.expire(9) == []
    refused = driver.queue.expire(10)
    assert [entry.item for entry, _ in refused] == ["b(", "b1"]
    assert {type(error) for _, error in refused} == {Unavailable}
    expected = "timeout of the corresponding sequence has been expired"
    assert {error.message for _, error in refused} == {expected}
    driver.push("a)", at=11)
    assert [driver.take(now=now) for now in (12, 13, 14)] == [["a("], ["a)"], ["c("]]


def test_a_timeout_means_nothing_to_a_sequence_that_has_a_slot() -> None:
    driver = Driver(sequences(slots=1))
    driver.push("a(", queue_timeout=5)
    assert driver.expire(6) == []
    assert driver.take(now=6) == ["a("]


def test_sequences_wait_for_each_other_until_enough_are_there() -> None:
    driver = Driver(sequences(slots=4, max_delay=50, utilization=0.5))
    driver.push("a(", at=0)
    assert driver.queue.take(10) == ([], 50)
    driver.push("b(", at=11)
    assert driver.take(now=11) == ["a(", "b("]


def test_sequences_wait_for_each_other_no_longer_than_the_delay() -> None:
    driver = Driver(sequences(slots=4, max_delay=50, utilization=0.5))
    driver.push("a(", at=0)
    assert driver.take(now=49) == []
    assert driver.take(now=50) == ["a("]


def test_without_a_utilization_nobody_waits() -> None:
    driver = Driver(sequences(slots=4, max_delay=50))
    driver.push("a(", at=0)
    assert driver.take(now=0) == ["a("]


def test_with_the_oldest_strategy_whoever_waits_longest_runs_first() -> None:
    driver = Driver(oldest())
    for request in ("a(", "b(", "c("):
        driver.push(request)
    for request in ("a1", "b1"):
        driver.push(request)
    assert driver.take(now=1) == ["a(", "b("]
    assert driver.take(now=2) == ["c(", "a1"]
    assert driver.take(now=3) == ["b1"]


def test_with_the_oldest_strategy_requests_wait_for_a_preferred_size() -> None:
    driver = Driver(oldest(preferred=(2,), max_delay=50))
    driver.push("a(", at=0)
    assert driver.queue.take(1) == ([], 50)
    driver.push("b(", at=2)
    assert driver.take(now=2) == ["a(", "b("]


def test_the_delay_of_a_request_begins_when_its_predecessor_has_run() -> None:
    driver = Driver(oldest(preferred=(2,), max_delay=50))
    driver.push("a(", at=0)
    driver.push("a1", at=1)
    assert driver.take(now=50) == ["a("]
    assert driver.queue.take(60) == ([], 110)
    assert driver.take(now=110) == ["a1"]


def test_once_sequences_are_stopped_none_begins_and_those_that_have_begun_go_on() -> None:
    driver = Driver(sequences(slots=1))
    driver.push("a(")
    driver.push("b(")
    driver.queue.stop_sequences()
    for start in ("c(", "a(2"):
        with pytest.raises(Unavailable, match="Server is stopping, scheduler for model has stopp"):
            driver.push(start)
    driver.push("a)")
    assert driver.has_sequences()
    driver.push("b)")
    assert not driver.has_sequences()
    assert [driver.take() for _ in range(4)] == [["a("], ["a)"], ["b("], ["b)"]]


def test_a_sequence_that_is_given_up_is_over() -> None:
    driver = Driver(sequences())
    driver.push("a(")
    assert driver.take(now=0) == ["a("]
    assert driver.take(now=1) == []
    assert driver.has_sequences()
    assert driver.expire(1 + IDLE) == []
    assert not driver.has_sequences()


@pytest.mark.parametrize("policy", [sequences(slots=1), oldest(slots=1)])
def test_flushing_ends_all_waiting_and_gives_idle_slots_to_those_without(
    policy: SequencePolicy,
) -> None:
    driver = Driver(policy)
    driver.push("a(")
    assert driver.take() == ["a("]
    assert driver.take() == []
    driver.push("b(")
    driver.push("b1")
    driver.push("c(")
    driver.queue.flush()
    assert [driver.take() for _ in range(3)] == [["b("], ["b1"], ["c("]]


def test_flushing_ends_the_delay_of_the_direct_strategy() -> None:
    driver = Driver(sequences(slots=4, max_delay=50, utilization=1.0))
    driver.push("a(")
    driver.queue.flush()
    assert driver.take() == ["a("]


def test_a_request_without_a_step_is_a_bug_of_the_caller() -> None:
    with pytest.raises(ValueError, match="belongs to no sequence"):
        Driver(sequences()).queue.push(Entry("a", 1, "k", 0))


class _Request:
    """Something that can be weakly referred to."""


@pytest.mark.parametrize("way", ["take", "discard", "expire"])
@pytest.mark.parametrize("policy", [sequences(), oldest()])
def test_nothing_holds_on_to_a_request_that_has_left(policy: SequencePolicy, way: str) -> None:
    queue: Sequencer[_Request] = Sequencer(policy, 1, "m")
    request = _Request()
    gone = weakref.ref(request)
    queue.push(Entry(request, 1, "k", at=0, deadline=1000, step=Step(1, True, False)))
    if way == "discard":
        queue.discard(request)
    else:
        getattr(queue, way)(1000)
    del request
    gc.collect()
    assert gone() is None
