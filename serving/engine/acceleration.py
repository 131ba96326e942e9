"""Sessions with an accelerator that are built while a version answers without it.

An accelerator compiles a graph for minutes. So a version is opened without it and serves; aside,
one build at a time, other sessions are opened with it, warmed up, held against the answers of
those that serve, and put in their place. What fails leaves the version as it is.
"""

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Final, TypeAlias

from serving.config import Placement
from serving.engine import gpu_memory
from serving.engine.backends.base import Session
from serving.engine.backends.exchangeable import Exchangeable
from serving.engine.parity import Agreement, Reference
from serving.errors import ServingError
from serving.statistics import BuildState
from serving.threads import give_way

# How many nanoseconds a run of so many rows takes.
RunTimes: TypeAlias = Mapping[int, int]

logger = logging.getLogger("penstock.load")

# How long a server that stops waits for a build, which nothing can interrupt.
_GRACE_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True, eq=False)
class Successor:
    """The session that is to take the place of the one in `slot`, which `open` opens."""

    slot: Exchangeable
    placement: Placement
    open: Callable[[], Session]


class _Unwanted(Exception):
    """Nobody has any use for what is built any more."""


class Acceleration:
    """The successors of a version's sessions; `state` and `reason` tell what became of them.

    `what` is the version for whoever reads the log, `warm_up` warms a session and gives its times,
    `reference` has the answers of those that serve.
    """

    def __init__(
        self,
        what: str,
        successors: Sequence[Successor],
        warm_up: Callable[[Session], RunTimes],
        reference: Reference,
    ) -> None:
        self._what = what
        self._placements = [each.placement for each in successors]
        self._accelerator = successors[0].placement.accelerator
        self._work: tuple[Sequence[Successor], Callable[[Session], RunTimes], Reference] | None
        self._work = successors, warm_up, reference
        self._wanted = True
        self._watchers: list[Callable[[RunTimes], None]] = []
        plain = ", ".join(dict.fromkeys(str(each.plain) for each in self._placements))
        self.state = BuildState.BUILDING
        self.reason = f"serves on {plain}; builds {self._accelerator} aside"

    def watch(self, exchanged: Callable[[RunTimes], None]) -> None:
        """Have `exchanged` told, on the event loop, how long runs take from now on."""
        self._watchers.append(exchanged)

    def tell(self, times: RunTimes) -> None:
        """Tell those who watch."""
        for exchanged in self._watchers:
            exchanged(times)

    def announce(self) -> None:
        """Say in the log that the version serves, and what it waits for."""
        logger.info("%s: %s", self._what, self.reason)

    def cancel(self) -> None:
        """The version goes: what is being built is thrown away as soon as it can be."""
        self._wanted = False

    def build(self) -> RunTimes | None:
        """Build the successors and put them in place; takes minutes, in a thread of its own.

        Gives the times of their runs; None where what serves stays, as the log says why.
        """
        work, self._work = self._work, None
        if work is None:
            return None
        began = time.monotonic()
        try:
            with gpu_memory.told(f"{self._what}: {self._accelerator} built", self._placements):
                times, agreement = self._built(*work)
        except _Unwanted:
            logger.info("%s: %s is not wanted any more", self._what, self._accelerator)
        except Exception as error:  # whatever it is, the version goes on as it is
            self._give_up(error)
        else:
            seconds = time.monotonic() - began
            found = f"swapped to {self._accelerator} after {seconds:.3g} s: {agreement}"
            logger.info("%s: %s", self._what, found)
            self._settle(BuildState.IN_USE, "")
            return times
        return None

    def _built(
        self,
        successors: Sequence[Successor],
        warm_up: Callable[[Session], RunTimes],
        reference: Reference,
    ) -> tuple[RunTimes, Agreement]:
        reference.check_inputs()
        opened: list[Session] = []
        try:
            for successor in successors:
                self._check_wanted()
                opened.append(successor.open())
                self._check_wanted()
                times = warm_up(opened[-1])
                agreement = reference.check(opened[-1])
            self._check_wanted()
        except BaseException:
            for session in opened:
                session.close()
            raise
        for successor, session in zip(successors, opened, strict=True):
            successor.slot.exchange(session).close()
        return times, agreement

    def _check_wanted(self) -> None:
        if not self._wanted:
            raise _Unwanted

    def _give_up(self, error: Exception) -> None:
        known = isinstance(error, ServingError)
        why = error.message if isinstance(error, ServingError) else repr(error)
        reason = f"serves without {self._accelerator}: {why}"
        logger.warning("%s: %s", self._what, reason, exc_info=None if known else error)
        self._settle(BuildState.REFUSED, reason)

    def _settle(self, state: BuildState, reason: str) -> None:
        # The state last: other threads read both, and who sees it finds the reason.
        self.reason = reason
        self.state = state


class Builder:
    """Builds one accelerator after the other, behind all that serves; to be used on the loop."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._accelerations: SimpleQueue[Acceleration | None] = SimpleQueue()
        # A daemon: what it does has no end that could be waited for.
        self._thread = threading.Thread(target=self._run, name="penstock-accelerate", daemon=True)

    def build(self, acceleration: Acceleration) -> None:
        """Build it when its turn comes."""
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
            self._thread.start()
        acceleration.announce()
        self._accelerations.put(acceleration)

    async def close(self) -> None:
        """Build nothing more; a build under way is left to itself unless it ends at once."""
        if self._loop is None:
            return
        self._accelerations.put(None)
        await asyncio.to_thread(self._thread.join, _GRACE_SECONDS)
        if self._thread.is_alive():
            logger.info("an accelerator that is being built is given up")

    def _run(self) -> None:
        give_way()
        while (acceleration := self._accelerations.get()) is not None:
            times = acceleration.build()
            if times is not None and self._loop is not None:
                with suppress(RuntimeError):  # the loop is closed
                    self._loop.call_soon_threadsafe(acceleration.tell, times)
            del acceleration  # while waiting for the next one, keep nothing of this one alive
