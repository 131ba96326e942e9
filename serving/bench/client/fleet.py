"""The processes that send requests, as the one that shows the results sees them."""

import math
import multiprocessing
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Final

from serving.bench.client import worker
from serving.bench.client.histogram import COARSE, Histogram
from serving.bench.client.tally import Tally
from serving.bench.client.worker import INTERRUPTS, Go, Job, Prepare, Progress, Ready, Stop
from serving.bench.plan import Step

_LEAD: Final = 50_000_000  # ns from the word to the start: all processes have heard it by then
_PATIENCE: Final = 0.1  # seconds until it is looked whether somebody has interrupted
_END: Final = 5.0


class Died(Exception):
    """A process that sends requests has ended; the message says how."""


@dataclass(slots=True)
class Standing:
    """How far a step is, of all processes together; `recent` since it was last looked at."""

    answered: int = 0
    failed: int = 0
    under_way: int = 0
    recent: Histogram = field(default_factory=lambda: Histogram(COARSE))


@dataclass(slots=True)
class Watch:
    """Who wants to know what while a step runs.

    `tell` is called several times a second with the standing and the seconds since the step began
    to be measured (below 0 in the warm-up); `begun` and `ended` once when the measurement begins
    and ends; `is_interrupted` is asked, and ends the step early.
    """

    tell: Callable[[Standing, float], None]
    begun: Callable[[], None]
    ended: Callable[[], None]
    is_interrupted: Callable[[], bool]


class Fleet:
    """Several processes that do the same steps, each its share."""

    def __init__(self, members: Sequence[tuple[BaseProcess, Connection]]) -> None:
        self._members = members

    def run(self, step: Step, watch: Watch) -> Tally:
        """What was counted in a step, by all processes; Died if one of them has."""
        parts = step.parts(len(self._members))
        pipes = [pipe for _, pipe in self._members[:parts]]
        for part, pipe in enumerate(pipes):
            self._say(pipe, Prepare(step.share(part, parts), part, parts))
        for pipe in pipes:
            if not isinstance(self._hear(pipe), Ready):
                raise Died("a process that sends requests does not do as it is told")
        if not step.warm_up:
            watch.begun()  # while nothing is under way that would be missed
        start = time.monotonic_ns() + _LEAD
        for pipe in pipes:
            self._say(pipe, Go(start))
        return self._follow(pipes, step, watch, start / 1e9 + step.warm_up)

    def _follow(self, pipes: Sequence[Connection], step: Step, watch: Watch, begin: float) -> Tally:
        """Hear what the processes say until each has given its tally."""
        merged = Tally()
        reports: dict[Connection, Progress] = {}
        recent = Histogram(COARSE)
        marks = _marks(step, watch, begin)
        pending = list(pipes)
        fresh: set[Connection] = set()
        is_stopped = False
        while pending:
            _call_due(marks)
            if watch.is_interrupted() and not is_stopped:
                is_stopped = True
                for pipe in pending:
                    self._say(pipe, Stop())
            for pipe in _readable(pending, marks):
                said = self._hear(pipe)
                if isinstance(said, Tally):
                    merged.merge(said)
                    pending.remove(pipe)
                elif isinstance(said, Progress):
                    reports[pipe] = said
                    recent.merge(said.recent)
                    fresh.add(pipe)
            if fresh and fresh.issuperset(pending):
                watch.tell(_together(reports, recent), time.monotonic() - begin)
                fresh, recent = set(), Histogram(COARSE)
        for _, mark in marks:
            mark()
        return merged

    def _say(self, pipe: Connection, order: object) -> None:
        try:
            pipe.send(order)
        except OSError:
            raise self._died(pipe) from None

    def _hear(self, pipe: Connection) -> object:
        try:
            return pipe.recv()
        except (EOFError, OSError):
            raise self._died(pipe) from None

    def _died(self, pipe: Connection) -> Died:
        process = next(process for process, own in self._members if own is pipe)
        process.join(_END)
        return Died(f"a process that sends requests has ended, exit code {process.exitcode}")


@contextmanager
def fleet(job: Job, processes: int) -> Iterator[Fleet]:
    """So many processes for the block; they end with it."""
    context = multiprocessing.get_context("spawn")
    members: list[tuple[BaseProcess, Connection]] = []
    try:
        with _deaf_to_interrupts():
            for _ in range(processes):
                ours, theirs = context.Pipe()
                process: BaseProcess = context.Process(
                    target=worker.main, args=(theirs, job), daemon=True
                )
                process.start()
                theirs.close()
                members.append((process, ours))
        yield Fleet(members)
    finally:
        # Which ends each of them, also one that waits for what it says to be heard.
        for _, pipe in members:
            pipe.close()
        for process, _ in members:
            process.join(_END)
            if process.is_alive():
                process.kill()
                process.join()


@contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """Processes that start in the block ignore Ctrl-C and SIGTERM from their first moment on."""
    heard = [signal.signal(number, signal.SIG_IGN) for number in INTERRUPTS]
    try:
        yield
    finally:
        for number, handler in zip(INTERRUPTS, heard, strict=True):
            signal.signal(number, handler)


def _marks(step: Step, watch: Watch, begin: float) -> deque[tuple[float, Callable[[], None]]]:
    """What to call when, in order; without a time for the end, that is when all have ended."""
    ended = (begin + step.duration if step.duration else math.inf, watch.ended)
    return deque([(begin, watch.begun), ended] if step.warm_up else [ended])


def _call_due(marks: deque[tuple[float, Callable[[], None]]]) -> None:
    while marks and marks[0][0] <= time.monotonic():
        marks.popleft()[1]()


def _readable(
    pipes: Sequence[Connection], marks: Sequence[tuple[float, object]]
) -> list[Connection]:
    """The pipes on which something was said; none if there is something else to do first."""
    next_mark = marks[0][0] - time.monotonic() if marks else _PATIENCE
    found = wait(pipes, max(min(_PATIENCE, next_mark), 0.0))
    return [pipe for pipe in pipes if pipe in found]


def _together(reports: Mapping[Connection, Progress], recent: Histogram) -> Standing:
    standing = Standing(recent=recent)
    for each in reports.values():
        standing.answered += each.answered
        standing.failed += each.failed
        standing.under_way += each.under_way
    return standing
