"""Runs the queue on an event loop: requests in, batches to worker threads, answers out.

Everything but `execute` happens on the loop's thread. A batch costs one hop to a worker thread
and one back, however many requests it holds; one that will be over sooner than that, and has the
loop for itself, runs where it is.
"""

import asyncio
import copy
import logging
import threading
import time
from collections.abc import Callable, Hashable, Iterable, Sequence
from functools import partial
from itertools import groupby
from typing import Any, Generic, TypeVar

from serving.engine.batching.admission import Admission, Line
from serving.engine.batching.batch import Batch, BatchReport, Executed
from serving.engine.batching.entries import Entry, Queue, Step
from serving.engine.batching.flight import Flight, Job
from serving.engine.batching.forecast import Forecast
from serving.engine.batching.looks import Looks
from serving.engine.batching.loop_time import LoopTime
from serving.engine.batching.ordering import InOrder
from serving.engine.batching.worker import Worker
from serving.errors import Code, Internal, Overloaded, ServingError, Unavailable
from serving.types import Timing

T = TypeVar("T")
R = TypeVar("R")
S = TypeVar("S")
E = TypeVar("E")

_NS_PER_MS = 1_000_000
_NS_PER_S = 1_000_000_000
# Batches that a system would interrupt for others several times.
_SLOW = 10 * _NS_PER_MS
# What is set aside waits for the batch before it, whoever comes or goes: no longer than this.
_BRIEF = 10 * _NS_PER_MS

_log = logging.getLogger(__name__)


class Batcher(Generic[T, R, S]):
    """Runs the requests for one model version in batches; to be created on the event loop.

    `queue`     decides which requests run together, and when; it must be empty and of no other use
    `execute`   runs one batch in a worker thread; what it raises fails that batch only
    `slots`     what may execute at the same time, such as one session per model instance; each
                runs one batch at a time, in a thread of its own, and must be closed after `close`
    `goal`      of how many rows a batch need not grow, see `Looks`; 1: none waits for another
    `preserve_ordering`  whether answers leave in the order in which the requests came
    `on_batch`  told of each execution, on the loop's thread
    `on_drop`   told of each request that got no result for another reason than a failed
                execution, on the loop's thread: OVERLOADED, DEADLINE_EXCEEDED, CANCELLED or
                UNAVAILABLE
    `forecast`  learns how long executions take
    `objective` within how many nanoseconds requests shall be answered, or be refused; 0: none
    `stop`      ends what a slot executes, from the loop's thread, once nobody wants it; None:
                what has begun runs to its end
    `loop_time` says what may be executed on the loop instead of in a thread; None: nothing
    `is_full`   whether the queue's next batch need not grow: it is set aside for a slot that is the
                only one, and begins as soon as the batch before it has run; None: none is
    `clock`     monotonic nanoseconds
    """

    def __init__(
        self,
        queue: Queue[Any],
        execute: Callable[[Batch[T, S]], Executed[R]],
        slots: Sequence[S],
        *,
        goal: int = 1,
        preserve_ordering: bool = False,
        on_batch: Callable[[BatchReport], object] = lambda report: None,
        on_drop: Callable[[Code], object] = lambda reason: None,
        forecast: Forecast | None = None,
        objective: int = 0,
        stop: Callable[[S], object] | None = None,
        loop_time: LoopTime | None = None,
        is_full: Callable[[], bool] | None = None,
        clock: Callable[[], int] = time.monotonic_ns,
        name: str = "batcher",
    ) -> None:
        if not slots:
            raise ValueError("a batcher without slots would never execute anything")
        self._queue: Queue[Job[T, R]] = queue
        self._order = InOrder() if preserve_ordering else None
        self._execute = execute
        self._on_batch = on_batch
        self._on_drop = on_drop
        self._stop = stop
        self._forecast = forecast or Forecast()
        self._admission = Admission(self._forecast, len(slots), objective)
        self._flights: list[Flight[T, R, S]] = []
        self._aside: Flight[T, R, S] | None = None
        self._is_full = is_full if len(slots) == 1 else None
        self._ending = threading.Lock()
        self._loop_time = loop_time
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        is_slow = self._forecast.longest > _SLOW
        self._workers = [Worker(index, slot, name, is_slow) for index, slot in enumerate(slots)]
        self._idle = list(self._workers)
        self._pumping = False
        self._looks = Looks(goal)
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0
        self._closing = False
        self._drained = asyncio.Event()
        self._finished = asyncio.Event()

    @property
    def waiting(self) -> int:
        """Requests that do not run yet, in the queue or set aside."""
        aside = self._aside
        if aside is None or aside.started:
            return len(self._queue)
        return len(self._queue) + len(aside.entries)

    @property
    def wait(self) -> int:
        """Nanoseconds that all that is accepted now will take, as far as is known.

        What runs counts in full, so that nothing but accepting and answering changes it.
        """
        running = [self._predict(one.batch) for one in self._flights]
        if self._aside is not None:
            running = [sum(running) + self._predict(self._aside.batch)]
        if not self._queue:
            return max(running, default=0)
        free_at = 0 if self._idle else min(running)
        line = Line(self._queue.rows, self._queue.batches, free_at, idle=False)
        return self._admission.end(line)

    @property
    def running(self) -> int:
        """Batches in execution."""
        return len(self._workers) - len(self._idle)

    async def submit(
        self,
        item: T,
        *,
        rows: int,
        key: Hashable,
        deadline: int | None = None,
        queue_timeout: int = 0,
        priority: int = 0,
        step: Step | None = None,
    ) -> tuple[R, Timing]:
        """The result for `item`, once a batch with it has run; see `Entry` for the arguments.

        Raises what the queue refuses it with, such as Overloaded if it is full or DeadlineExceeded
        if time was up before it ran; Unavailable once closing; and whatever the execution raised:
        a ServingError as a copy of its own, anything else as Internal. Cancelling takes it out of
        the queue.
        """
        job: Job[T, R] = Job(item, self._loop.create_future())
        now = self._clock()
        due = self._admission.due(now, deadline)
        entry = Entry(job, rows, key, now, deadline, queue_timeout, priority, step, due)
        try:
            self._admit(entry)
        except Overloaded:
            await asyncio.sleep(self._admission.hold(now, deadline) / _NS_PER_S)
            raise
        try:
            return await job.future
        except asyncio.CancelledError:
            self._abandon(job)
            raise
        finally:
            # The traceback of an exception must not keep the request's tensors alive.
            del job, item, entry

    async def finish_sequences(self) -> None:
        """Have no sequence begin any more; returns once those that have begun are over."""
        self._queue.stop_sequences()
        self._finished.clear()
        self._pump_soon()
        await self._finished.wait()

    async def close(self) -> None:
        """Refuse new requests, answer those accepted without further delay, end the threads."""
        if not self._closing:
            self._closing = True
            self._queue.flush()
            self._pump_soon()
        await self._drained.wait()
        if self._loop_time is not None:
            self._loop_time.release(self)
        for worker in self._workers:
            worker.stop()

    def _admit(self, entry: Entry[Job[T, R]]) -> None:
        if self._closing:
            _tell(self._on_drop, Code.UNAVAILABLE)
            raise Unavailable("the model is being unloaded and accepts no more requests")
        try:
            # A sequence that has begun goes on. Who can wait for any time needs no forecast.
            if entry.step is None and entry.due is not None:
                line = self._line(entry)
                entry.item.level = line.level
                entry.item.expected_at = self._admission.check(line, entry.at, entry.deadline)
            self._queue.push(entry)
        except ServingError as refusal:
            if isinstance(refusal, Overloaded) and refusal.retry_after is None:
                refusal.retry_after = self.wait / _NS_PER_S
            _tell(self._on_drop, refusal.code)
            raise
        if self._order is not None:
            self._order.expect(entry.item.future)
        self._pump_soon()

    def _line(self, entry: Entry[Job[T, R]]) -> Line:
        """What runs before that entry would, and it."""
        free_at = entry.at
        if not self._idle:
            free_at = max(free_at, min(flight.expected_at for flight in self._flights))
            if self._aside is not None:
                free_at += self._predict(self._aside.batch)
        rows, batches, level = self._queue.line_to(entry)
        is_idle = bool(self._idle) and rows == entry.rows
        return Line(rows, batches, free_at, is_idle, level)

    def _predict(self, batch: Batch[T, S]) -> int:
        """Nanoseconds that `batch` will take, as far as is known."""
        return self._forecast.predict(sum(batch.rows)) or 0

    def _abandon(self, job: Job[T, R]) -> None:
        """The caller of `job` has gone."""
        if job.future.cancelled():
            _tell(self._on_drop, Code.CANCELLED)
        else:
            job.future.exception()  # Looked at, so that asyncio does not complain that nobody did.
        if self._queue.discard(job):
            self._pump_soon()
        elif self._stop is not None:
            self._stop_unwanted(self._stop)
        self._pass_over()

    def _stop_unwanted(self, stop: Callable[[S], object]) -> None:
        """End the executions of which nobody waits for any result."""
        for flight in self._flights:
            if not flight.is_stopped and flight.is_unwanted:
                # Once it has ended, its slot may be at the batch that was set aside.
                with self._ending:
                    if not flight.ended:
                        flight.is_stopped = True
                        stop(flight.worker.slot)

    def _pump_soon(self) -> None:
        # Not at once: requests that arrive in the same turn of the loop are to share a batch.
        if not self._pumping:
            self._pumping = True
            self._looks.begin()
            self._loop.call_soon(self._look)

    def _look(self) -> None:
        """Pump when all have been read that come in time to share a batch."""
        if self._idle and self._looks.again(self._queue.rows, self._clock()):
            self._loop.call_soon(self._look)
        else:
            self._pump()

    def _pump(self) -> None:
        """Start what can be started, then refuse what has expired, and see when to look again."""
        self._pumping = False
        now = self._clock()
        refused = self._queue.expire(now)
        times = []
        has_run = False
        for worker in reversed(self._idle.copy()):
            entries, wake_at = self._queue.take(now, worker.index)
            if not entries:
                times.append(wake_at)
            elif self._launch(worker, entries):
                # What came meanwhile is to be read before the next batch: first come, first served.
                if self._queue:
                    self._pump_soon()
                times.clear()
                has_run = True
                break
        if self._is_full is not None and self._flights and self._aside is None and self._is_full():
            self._set_aside(now, self._flights[0])
        self._wake(_earliest(times) if times else self._queue.expires_at, now)
        for entry, error in refused:
            if not entry.item.future.done():
                entry.item.future.set_exception(error)
                _tell(self._on_drop, error.code)
        if refused:
            self._pass_over()
        if not self._queue.has_sequences:
            self._finished.set()
        elif has_run:
            # By asking for its next batch an instance says that the last one is over.
            self._pump_soon()
        if self._closing and not self.running and not self._queue:
            self._drained.set()

    def _wake(self, at: int | None, now: int) -> None:
        """Pump again at `at`, or a little earlier: then the next pump sets the timer anew."""
        if self._timer is not None:
            if at is not None and self._timer_at <= at:
                return
            self._timer.cancel()
            self._timer = None
        if at is not None:
            # Loops count whole milliseconds; rounded down, the last one would be a busy loop.
            milliseconds = max(1, -((now - at) // _NS_PER_MS))
            self._timer_at = at
            self._timer = self._loop.call_later(milliseconds / 1000, self._ring)

    def _ring(self) -> None:
        self._timer = None
        self._pump()

    def _set_aside(self, now: int, before: Flight[T, R, S]) -> None:
        """Take the next batch for the thread that runs the one `before`, if it will soon be over.

        It would wait for the loop otherwise, which under load has a millisecond of other work.
        """
        if not 0 < self._predict(before.batch) <= _BRIEF:
            return
        entries, _ = self._queue.take(now, before.worker.index)
        self._aside = self._flight(before.worker, entries, before.expected_at)
        before.worker.run(partial(self._fly, self._aside))

    def _flight(
        self, worker: Worker[S], entries: list[Entry[Job[T, R]]], now: int
    ) -> Flight[T, R, S]:
        """A batch of `entries` that `worker` begins `now`."""
        items = [entry.item.item for entry in entries]
        rows = [entry.rows for entry in entries]
        steps = [entry.step for entry in entries if entry.step is not None]
        batch = Batch(worker.slot, items, rows, steps)
        duration = self._forecast.predict(sum(rows))
        ends_at = now + (duration or 0)
        return Flight(worker, batch, entries, worker.idle_since, duration, ends_at)

    def _launch(self, worker: Worker[S], entries: list[Entry[Job[T, R]]]) -> bool:
        """Start a batch; True if it has run already."""
        now = self._clock()
        flight = self._flight(worker, entries, now)
        if self._loop_time is not None and self._loop_time.grant(self, flight.duration, now):
            outcome = self._attempt(flight)
            worker.idle_since = flight.ended
            self._conclude(flight, outcome)
            del outcome  # see `_fly`
            return True
        self._idle.remove(worker)
        self._flights.append(flight)
        worker.run(partial(self._fly, flight))
        return False

    def _fly(self, flight: Flight[T, R, S]) -> None:
        """Run a batch, in a worker thread."""
        outcome = self._attempt(flight)
        try:
            self._loop.call_soon_threadsafe(self._land, flight, outcome)
        except RuntimeError:
            _log.debug("the event loop was closed before a batch had run")
        finally:
            # The traceback of a failure leads here, and would keep itself and the batch's tensors.
            del outcome

    def _attempt(self, flight: Flight[T, R, S]) -> Executed[R] | BaseException | None:
        """What a batch comes to; None where it is not run, as nobody waits for it any more."""
        batch = flight.batch
        flight.started = self._clock()
        # A sequence has to go on from every step that was taken.
        if flight.is_unwanted and not batch.steps:
            flight.ended = flight.started
            return None
        try:
            executed = self._execute(batch)
            if len(executed.results) != len(batch.items):
                results = len(executed.results)
                raise Internal(f"{len(batch.items)} requests were run but {results} answered")
            return executed
        except BaseException as error:  # Whatever it is, it ends this batch and not the thread.
            return error
        finally:
            with self._ending:
                flight.ended = self._clock()

    def _land(self, flight: Flight[T, R, S], outcome: Executed[R] | BaseException | None) -> None:
        """Hand out what a batch came to, back on the loop's thread."""
        self._flights.remove(flight)
        if self._aside is not None:
            self._aside.free_since = flight.ended
            self._aside.expected_at += flight.ended - flight.expected_at
            self._flights.append(self._aside)
            self._aside = None
        else:
            flight.worker.idle_since = self._clock()
            self._idle.append(flight.worker)
        self._pump()
        self._conclude(flight, outcome)

    def _conclude(
        self, flight: Flight[T, R, S], outcome: Executed[R] | BaseException | None
    ) -> None:
        if outcome is None:
            return
        if isinstance(outcome, BaseException):
            if flight.is_stopped:
                report = _report_stopped(flight)
            else:
                report = self._hand_out_error(flight, outcome)
        else:
            report = self._hand_out_results(flight, outcome)
        _tell(self._on_batch, report)

    def _hand_out_results(self, flight: Flight[T, R, S], executed: Executed[R]) -> BatchReport:
        rows = executed.rows or sum(flight.batch.rows)
        times = executed.compute_input, executed.compute_infer, executed.compute_output
        self._forecast.learn(rows, sum(times))
        self._admission.learn_size(sum(flight.batch.rows))
        foreseen = [entry.item.expected_at for entry in flight.entries if entry.item.expected_at]
        if foreseen:
            self._learn_error(flight.entries, min(foreseen))
        abandoned = 0
        started, ended, free_since = flight.started, flight.ended, flight.free_since
        for entry, result in zip(flight.entries, executed.results, strict=True):
            if not _is_wanted(entry, ended):
                abandoned += entry.rows
            future = entry.item.future
            if not future.done():
                at = entry.at
                company = max(0, started - max(at, free_since))
                answer = result, Timing(started - at, *times, rows, company, at)
                self._settle(future, future.set_result, answer)
        wasted = sum(times) * abandoned // (sum(flight.batch.rows) or 1)
        return BatchReport(rows, *times, abandoned, wasted)

    def _learn_error(self, entries: list[Entry[Job[T, R]]], expected_at: int) -> None:
        """Hold what was foreseen of a batch, at first `expected_at`, against what it came to."""
        now, level = self._clock(), entries[0].item.level
        if entries[-1].item.level == level:
            self._admission.learn_error(now - expected_at, level)
            return
        for level, jobs in groupby((entry.item for entry in entries), lambda job: job.level):
            foreseen = [job.expected_at for job in jobs if job.expected_at]
            if foreseen:
                self._admission.learn_error(now - min(foreseen), level)

    def _hand_out_error(self, flight: Flight[T, R, S], error: BaseException) -> BatchReport:
        rows = sum(flight.batch.rows)
        if not isinstance(error, ServingError):
            _log.error("a batch of %d rows failed", rows, exc_info=error)
            error = Internal(f"inference failed: {error!r}")
        abandoned = 0
        for entry in flight.entries:
            if not _is_wanted(entry, flight.ended):
                abandoned += entry.rows
            if not entry.item.future.done():
                # A copy each: raising one object in several tasks would mix up their tracebacks.
                future = entry.item.future
                self._settle(future, future.set_exception, copy.copy(error))
        return BatchReport(rows, 0, 0, 0, abandoned, error=error)

    def _settle(self, future: "asyncio.Future[Any]", tell: Callable[[E], None], outcome: E) -> None:
        """Have `tell` tell the outcome of a request, when it is its turn."""
        if self._order is None:
            tell(outcome)
        else:
            self._order.settle(future, partial(tell, outcome))

    def _pass_over(self) -> None:
        """Some requests have left without an answer from an execution."""
        if self._order is not None:
            self._order.release()


def _report_stopped(flight: Flight[Any, Any, Any]) -> BatchReport:
    rows, elapsed = sum(flight.batch.rows), flight.ended - flight.started
    return BatchReport(rows, 0, 0, 0, rows, elapsed, is_stopped=True)


def _earliest(times: Iterable[int | None]) -> int | None:
    return min((time for time in times if time is not None), default=None)


def _is_wanted(entry: Entry[Job[Any, Any]], at: int) -> bool:
    """Whether anybody waits for the answer to `entry`, which is there `at` that time."""
    return not entry.item.future.done() and (entry.deadline is None or at < entry.deadline)


def _tell(hook: Callable[[E], object], event: E) -> None:
    """Call a hook of the statistics, whose failure must not cost anybody an answer."""
    try:
        hook(event)
    except Exception:
        _log.exception("a hook of the batcher failed")
