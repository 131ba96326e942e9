"""Loads: who sends the next request, and when."""

import asyncio
import time
from collections.abc import Iterator
from typing import Final

from serving.bench.client.alarm import Alarm
from serving.bench.client.caller import Call, Caller, Ending
from serving.bench.client.server_timing import durations
from serving.bench.client.supply import Supply
from serving.bench.client.tally import Failure, Recorder, Tally
from serving.bench.plan import Step

_SECOND: Final = 1_000_000_000
_TURN: Final = 64  # requests sent before answers are looked at again
_PAUSE: Final = 0.1  # seconds until somebody whom nobody answered asks again
_LAG_PERIOD: Final = 0.05
_UNSENT: Final = Failure("timeout", "not sent within the timeout: too many requests under way")


class Load:
    """What both loops share: the interval that is measured, and what becomes of an ended call.

    It warms up from `start` on, is measured from `begin`, and `done` is set once no request is to
    come and all have ended. Times are nanoseconds of the monotonic clock.
    """

    def __init__(self, caller: Caller, supply: Supply, step: Step, start: int) -> None:
        self.step = step
        self.begin = start + int(step.warm_up * _SECOND)
        self.end = self.begin + int(step.duration * _SECOND)
        self.done = asyncio.Event()
        self.under_way = 0
        self.recorder = Recorder(Tally(), self.begin)
        self._tally = self.recorder.tally
        self._caller = caller
        self._supply = supply
        self._start = start
        self._timeout = int(step.timeout * _SECOND)
        self._measured = 0  # requests due since `begin`
        self._last_answer = self.begin
        self._last_end = self.begin
        self._is_over = False
        self._loop = asyncio.get_running_loop()
        self._alarm = Alarm(self._loop, self._ring)
        caller.ended = self._ended

    def begin_at_start(self) -> None:
        """Send the first requests at `start`; `done` tells the end."""
        self._alarm.set(self._start)

    def close(self) -> None:
        """Set no alarm any more."""
        self._alarm.close()

    def stop(self) -> None:
        """Send nothing more, and wait for nothing."""
        self._is_over = True
        self.end = min(self.end, time.monotonic_ns()) if self.step.duration else self.end
        self.done.set()

    def finish(self) -> Tally:
        """All that was counted."""
        self.recorder.flush()
        end = self.end if self.step.duration else self._last_end
        self._tally.elapsed = max(end - self.begin, 1) / _SECOND
        self._tally.silent_for = max(end - self._last_answer, 0) / _SECOND
        return self._tally

    def _is_last(self, due: int) -> bool:
        """True if a request due at `due` is not to be sent any more."""
        if self.step.requests:
            return self._measured >= self.step.requests
        return due >= self.end

    def _send(self, due: int) -> None:
        body, content, sequence = self._supply.take()
        self._measured += due >= self.begin
        self.under_way += 1
        self._caller.call(Call(body, due, due + self._timeout, content, sequence))

    def _ended(self, call: Call, now: int, ending: Ending) -> None:
        self.under_way -= 1
        self._last_end = now
        if call.sequence is not None:
            self._supply.give_back(call.sequence, ending.failure is None)
        if ending.failure is None and self._is_in_time(call, now):
            self._tally.answered_in_time += 1
            self._last_answer = now
        if call.due >= self.begin:
            self._count(call, now, ending)
        self._go_on(ending)

    def _is_in_time(self, call: Call, now: int) -> bool:
        """True for an end at `now` that throughput counts."""
        return call.due >= self.begin if self.step.requests else self.begin <= now < self.end

    def _count(self, call: Call, now: int, ending: Ending) -> None:
        if ending.failure is not None:
            self.recorder.failure(call.due, ending.failure)
            return
        self.recorder.answer(call.due, now - call.due)
        if ending.timing is not None:
            for name, took in durations(ending.timing):
                self.recorder.timing(name, took)

    def _ring(self) -> None:
        """Send what is due now."""
        raise NotImplementedError

    def _go_on(self, ending: Ending) -> None:
        """Send what is due after a call has ended, and see whether it was the last."""
        raise NotImplementedError


class ClosedLoop(Load):
    """Each of so many connections asks again as soon as it has its answer."""

    def _ring(self) -> None:
        for _ in range(self.step.in_flight):
            self._next()

    def _next(self) -> None:
        now = time.monotonic_ns()
        if not self._is_over and not self._is_last(now):
            self._send(now)
        elif not self.under_way:
            self.done.set()

    def _go_on(self, ending: Ending) -> None:
        if ending.is_lost and not self._is_over:
            # Nobody answers: asking without a pause would only measure how quickly that fails.
            self.under_way += 1
            self._loop.call_later(_PAUSE, self._try_again)
        else:
            self._next()

    def _try_again(self) -> None:
        self.under_way -= 1
        self._next()


class OpenLoop(Load):
    """Requests are sent when they are due, whether or not those before them were answered.

    A request that is due while `in_flight` others are under way waits for one of them to end; its
    latency is counted from when it was due all the same.
    """

    def __init__(
        self, caller: Caller, supply: Supply, step: Step, start: int, times: Iterator[int]
    ) -> None:
        super().__init__(caller, supply, step, start)
        self._times = times
        self._due = start + next(times)
        self._is_full = False

    def _ring(self) -> None:
        if self._is_over:
            return
        for _ in range(_TURN):
            now = time.monotonic_ns()
            if self._is_last(self._due):
                self._is_over = True
                self._end_if_idle()
                return
            if self._due > now:
                self._is_full = False
                self._alarm.set(self._due)
                return
            if self.under_way >= self.step.in_flight:
                self._is_full = True
                return
            self._send_late(now)
        self._alarm.set(now)

    def _send_late(self, now: int) -> None:
        due = self._due
        self._due = self._start + next(self._times)
        if due >= self.begin:
            if self._is_full:
                self._tally.held_back += 1
            else:
                self.recorder.late(now - due)
        if now < due + self._timeout:
            self._send(due)
        elif due >= self.begin:
            self._measured += 1
            self.recorder.failure(due, _UNSENT)

    def _go_on(self, ending: Ending) -> None:
        if self._is_full:
            self._ring()
        self._end_if_idle()

    def _end_if_idle(self) -> None:
        if self._is_over and not self.under_way:
            self.done.set()


def load(
    caller: Caller, supply: Supply, step: Step, start: int, times: Iterator[int] | None
) -> ClosedLoop | OpenLoop:
    """The load of a step, to begin at `start`; `times` are the arrivals of an open loop."""
    if times is None:
        return ClosedLoop(caller, supply, step, start)
    return OpenLoop(caller, supply, step, start, times)


async def watch_lag(recorder: Recorder) -> None:
    """Count, until cancelled, by how much the event loop is late: what it does to every answer."""
    while True:
        due = time.monotonic_ns() + int(_LAG_PERIOD * _SECOND)
        await asyncio.sleep(_LAG_PERIOD)
        recorder.lag(time.monotonic_ns() - due)
