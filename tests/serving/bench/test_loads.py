"""A closed loop asks again once it is answered, an open one when it is time, whatever comes back.

The server is made of the seam's own words: it answers a call after so many of its own answers, or
when the test says so, and no test depends on how long anything takes.
"""

import asyncio
import time
from collections.abc import Iterator
from itertools import count

import pytest

from serving.bench.client.caller import Call, Ended, Ending
from serving.bench.client.loads import ClosedLoop, Load, OpenLoop
from serving.bench.client.supply import Turns
from serving.bench.client.tally import Failure
from serving.bench.plan import Step

SECOND = 1_000_000_000
REFUSED = Failure("HTTP 503", "Exceeds maximum queue size")


class Server:
    """Answers each call at once, or keeps it until it is let go."""

    def __init__(self, is_answering: bool = True, failure: Failure | None = None) -> None:
        self.ended: Ended = lambda *_: None
        self.calls: list[Call] = []
        self.kept: list[Call] = []
        self.most = 0
        self._is_answering = is_answering
        self._failure = failure
        self._loop = asyncio.get_running_loop()
        self._awaited = (0, asyncio.Event())

    async def sent(self, number: int) -> None:
        """Until so many calls were sent."""
        self._awaited = (number, asyncio.Event())
        if len(self.calls) < number:
            await self._awaited[1].wait()

    async def open(self, connections: int) -> None:
        """Nothing to open."""

    async def close(self) -> None:
        """Nothing to close."""

    def call(self, call: Call) -> None:
        self.calls.append(call)
        self.kept.append(call)
        self.most = max(self.most, len(self.kept))
        if len(self.calls) == self._awaited[0]:
            self._awaited[1].set()
        if self._is_answering:
            self._loop.call_soon(self.answer, call)

    def answer(self, call: Call, timing: str | None = None) -> None:
        self.kept.remove(call)
        self.ended(call, time.monotonic_ns(), Ending(self._failure, timing=timing))

    def answer_all(self) -> None:
        self._is_answering = True
        for call in tuple(self.kept):
            self.answer(call)


def step(**options: float) -> Step:
    return Step(**{"in_flight": 4, "requests": 100, "timeout": 60.0} | options)  # type: ignore[arg-type]


def turns(count: int) -> Turns:
    return Turns([b""] * count)


def every(nanoseconds: int) -> Iterator[int]:
    return (index * nanoseconds for index in count())


@pytest.fixture(autouse=True)
def _closed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Close every load in the end, as whoever begins one has to."""
    begun: list[Load] = []
    begin = Load.begin_at_start

    def note(load: Load) -> None:
        begun.append(load)
        begin(load)

    monkeypatch.setattr(Load, "begin_at_start", note)
    yield
    for load in begun:
        load.close()


async def test_a_closed_loop_sends_as_many_requests_as_were_asked_for() -> None:
    server = Server()
    load = ClosedLoop(server, turns(3), step(), time.monotonic_ns())
    load.begin_at_start()
    await load.done.wait()

    assert (load.finish().answered, len(server.calls), server.most) == (100, 100, 4)


async def test_a_closed_loop_waits_for_answers() -> None:
    server = Server(is_answering=False)
    load = ClosedLoop(server, turns(1), step(), time.monotonic_ns())
    load.begin_at_start()
    await server.sent(4)
    for _ in range(100):
        await asyncio.sleep(0)

    assert len(server.calls) == 4
    server.answer(server.calls[0])
    assert len(server.calls) == 5


async def test_the_prepared_requests_take_turns() -> None:
    server = Server()
    load = ClosedLoop(server, turns(3), step(requests=7), time.monotonic_ns())
    load.begin_at_start()
    await load.done.wait()

    assert [call.body for call in server.calls] == [0, 1, 2, 0, 1, 2, 0]


async def test_what_was_sent_in_the_warm_up_is_not_counted() -> None:
    server = Server()
    load = ClosedLoop(server, turns(1), step(warm_up=0.02), time.monotonic_ns())
    load.begin_at_start()
    await load.done.wait()

    warming = sum(call.due < load.begin for call in server.calls)
    assert warming > 0
    assert load.finish().answered == 100 == len(server.calls) - warming


async def test_failures_are_counted_by_what_was_said_and_are_no_answers() -> None:
    server = Server(failure=REFUSED)
    load = ClosedLoop(server, turns(1), step(), time.monotonic_ns())
    load.begin_at_start()
    await load.done.wait()
    tally = load.finish()

    assert (tally.answered, tally.answered_in_time, tally.failures) == (0, 0, {REFUSED: 100})
    assert tally.failed_in.sum() == 100


async def test_an_open_loop_sends_when_it_is_time_though_nobody_answers() -> None:
    server = Server(is_answering=False)
    load = OpenLoop(server, turns(1), step(in_flight=1000), time.monotonic_ns(), every(10_000))
    load.begin_at_start()
    await server.sent(100)
    assert server.most == 100
    server.answer_all()
    await load.done.wait()

    assert load.finish().answered == 100


async def test_latency_counts_from_when_a_request_was_due() -> None:
    """All were due long ago: coordinated omission would count them from when they were sent."""
    server = Server()
    start = time.monotonic_ns() - 5 * SECOND
    load = OpenLoop(server, turns(1), step(in_flight=1), start, every(1000))
    load.begin_at_start()
    await load.done.wait()
    latency = load.finish().latency

    assert len(latency) == 100
    assert latency.smallest >= 4.9 * SECOND


async def test_requests_beyond_the_limit_wait_and_are_told_of() -> None:
    server = Server(is_answering=False)
    load = OpenLoop(server, turns(1), step(in_flight=10), time.monotonic_ns(), every(1000))
    load.begin_at_start()
    await server.sent(10)
    for _ in range(200):
        await asyncio.sleep(0)
    assert len(server.calls) == 10
    server.answer_all()
    await load.done.wait()
    tally = load.finish()

    assert server.most == 10
    assert tally.answered == 100
    assert tally.held_back > 0


async def test_a_request_that_waited_beyond_its_timeout_is_not_sent_but_counted() -> None:
    server = Server()
    start = time.monotonic_ns() - 5 * SECOND
    load = OpenLoop(server, turns(1), step(timeout=1.0), start, every(1000))
    load.begin_at_start()
    await load.done.wait()
    tally = load.finish()

    assert server.calls == []
    assert [failure.status for failure in tally.failures] == ["timeout"]
    assert (tally.failed, tally.answered) == (100, 0)


async def test_a_deadline_is_the_timeout_after_a_request_was_due() -> None:
    server = Server()
    load = OpenLoop(server, turns(1), step(timeout=30.0), time.monotonic_ns(), every(1000))
    load.begin_at_start()
    await load.done.wait()

    assert {call.deadline - call.due for call in server.calls} == {30 * SECOND}


@pytest.mark.parametrize("is_open", [False, True], ids=["closed", "open"])
async def test_a_load_that_is_stopped_ends_with_what_it_has(is_open: bool) -> None:
    server = Server(is_answering=False)
    options = step(requests=0, duration=3600.0)
    start = time.monotonic_ns()
    load = OpenLoop(server, turns(1), options, start, every(1000)) if is_open else None
    running = load or ClosedLoop(server, turns(1), options, start)
    running.begin_at_start()
    await server.sent(4)
    server.answer(server.calls[0])
    running.stop()
    await running.done.wait()
    tally = running.finish()

    assert tally.answered == 1
    assert tally.elapsed < 3600


async def test_the_servers_own_times_are_counted_by_name() -> None:
    server = Server(is_answering=False)
    load = ClosedLoop(server, turns(1), step(in_flight=1, requests=1), time.monotonic_ns())
    load.begin_at_start()
    await server.sent(1)
    server.answer(server.calls[0], timing='queue;dur=1.5, compute;dur=2.25, batch;desc="4 rows"')
    timings = load.finish().timings

    assert {name: each.largest for name, each in timings.items()} == {
        "queue": 1_500_000,
        "compute": 2_250_000,
    }
