"""A process that sends requests: does its share of each step that it is told of.

What it is told, through a pipe: `Prepare`, then `Go`, for each step; `Stop` ends a step
early; the end of the pipe ends the process. What it says: `Ready`, `Progress` several times a
second, and the step's `Tally`.
"""

import asyncio
import gc
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any, Final

from serving.bench.client import loads
from serving.bench.client.answers import Checker
from serving.bench.client.caller import Caller, Check
from serving.bench.client.histogram import Histogram
from serving.bench.client.supply import Supply
from serving.bench.client.tally import Tally
from serving.bench.model import Model
from serving.bench.plan import Protocol, Step, Target
from serving.types import Array

_PROGRESS: Final = 0.25  # seconds
_UNHEARD: Final = (BrokenPipeError, ConnectionResetError)  # nobody is there any more
INTERRUPTS: Final = (signal.SIGINT, signal.SIGTERM)


@dataclass(frozen=True, slots=True)
class Job:
    """What all steps have in common.

    `supply` makes, in each process, what says which requests are sent. `check` looks at the answers
    over HTTP of a server that has a protocol of its own.
    """

    target: Target
    model: Model
    supply: Callable[[], Supply]
    expected: Sequence[Mapping[str, Array]]
    channels: int
    check: Check | None = None


@dataclass(frozen=True, slots=True)
class Prepare:
    """Connect for a step: this process's share of it, the `part`-th of `parts`."""

    step: Step
    part: int
    parts: int


@dataclass(frozen=True, slots=True)
class Go:
    """Begin the step at `start` nanoseconds of the monotonic clock."""

    start: int


class Stop:
    """End the step now."""


class Ready:
    """As many connections as can be are there."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a step is; `recent` are the latencies since the last word of it."""

    answered: int
    failed: int
    under_way: int
    recent: Histogram


def main(pipe: Connection, job: Job) -> None:
    """Do as told until there is nobody who tells."""
    # Ctrl-C, and what `timeout` ends a command by, reach the whole group of processes; the first of
    # them decides what becomes of it.
    for number in INTERRUPTS:
        signal.signal(number, signal.SIG_IGN)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner, suppress(*_UNHEARD):
        runner.run(_Worker(pipe, job).run())


def _loop_factory() -> Any:
    if sys.platform == "win32":
        return None
    import uvloop

    return uvloop.new_event_loop


class _Worker:
    def __init__(self, pipe: Connection, job: Job) -> None:
        self._pipe = pipe
        self._job = job
        self._orders: asyncio.Queue[object] = asyncio.Queue()
        # Of all steps: sequences go on from one to the next.
        self._supply = job.supply()
        self._load: loads.Load | None = None
        self._is_stopped = False

    async def run(self) -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(_end_if_broken)
        listen = threading.Thread(target=self._listen, args=(loop,))
        listen.daemon = True
        listen.start()
        # What was made so far stays, and need not be looked through while latencies are taken.
        gc.collect()
        gc.freeze()
        caller = await _caller(self._job)
        try:
            while isinstance(order := await self._orders.get(), Prepare):
                await self._step(caller, order)
        finally:
            await caller.close()

    def _listen(self, loop: asyncio.AbstractEventLoop) -> None:
        """In a thread of its own: hand on what is said, and that nobody is there any more."""
        while True:
            try:
                order = self._pipe.recv()
            except (EOFError, OSError):
                order = None
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(self._take, order)
            if order is None:
                return

    def _take(self, order: object) -> None:
        # A step may be stopped between the word to begin and its first request.
        self._is_stopped = isinstance(order, Stop | None)
        if self._is_stopped and self._load:
            self._load.stop()
        if not isinstance(order, Stop):
            self._orders.put_nowait(order)

    async def _step(self, caller: Caller, prepare: Prepare) -> None:
        step = prepare.step
        await caller.open(1 if step.is_open else step.in_flight)
        self._pipe.send(Ready())
        order = await self._orders.get()
        if not isinstance(order, Go):
            self._orders.put_nowait(order)
            return
        times = None
        if step.arrivals:
            times = step.arrivals.times(prepare.part, prepare.parts)
        self._load = load = loads.load(caller, self._supply, step, order.start, times)
        asides = [
            asyncio.create_task(aside)
            for aside in (self._tell(load), loads.watch_lag(load.recorder), _measure_cpu(load))
        ]
        try:
            if self._is_stopped:
                load.stop()
            else:
                load.begin_at_start()
            await load.done.wait()
        finally:
            load.close()
            self._load = None
            for aside in asides:
                aside.cancel()
        self._pipe.send(load.finish())

    async def _tell(self, load: loads.Load) -> None:
        with suppress(*_UNHEARD):
            while True:
                await asyncio.sleep(_PROGRESS)
                recorder = load.recorder
                recent = recorder.take_recent()
                tally: Tally = recorder.tally
                self._pipe.send(Progress(tally.answered, tally.failed, load.under_way, recent))


def _end_if_broken(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """A fault of this program must not pass for a server that does not answer."""
    loop.default_exception_handler(context)
    if not isinstance(context.get("exception"), OSError | None):
        os._exit(os.EX_SOFTWARE if hasattr(os, "EX_SOFTWARE") else 1)


async def _measure_cpu(load: loads.Load) -> None:
    """Note, until cancelled, which share of a processor this process takes while measuring."""
    await _sleep_until(load.begin)
    began, used = time.monotonic(), time.process_time()
    shares = load.recorder.tally.cpu
    shares.append(0.0)
    while not load.step.duration or time.monotonic_ns() < load.end:
        await asyncio.sleep(_PROGRESS)
        shares[0] = (time.process_time() - used) / (time.monotonic() - began)


async def _sleep_until(at: int) -> None:
    await asyncio.sleep(max(at - time.monotonic_ns(), 0) / 1e9)


async def _caller(job: Job) -> Caller:
    check: Callable[..., str | None]
    check = job.check or Checker(job.target.protocol, job.model, job.expected)
    if job.target.protocol is Protocol.GRPC:
        from serving.bench.client.grpc_caller import GrpcCaller

        return GrpcCaller(job.target, check, job.channels)
    from serving.bench.client.http_caller import HttpCaller

    return HttpCaller(job.target, check)
