"""Keeps the processes of one server running, and stops them together."""

import contextlib
import gc
import logging
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Final

from serving.errors import ServingError
from serving.supervision import children
from serving.supervision.children import Child, Report, Reports, Role
from serving.supervision.pulse import INTERVAL

logger = logging.getLogger("penstock.server")

# In seconds: a process that ends earlier than so long after its start, or that cannot be had, is
# started again so much later; any other at once.
_PROBATION: Final = 1.0


class Supervisor:
    """Runs each of `roles` in a process of its own.

    `live` is called when all have said so for the first time, `ready` with the text of the one that
    is ready first. Until then, a process that ends ends the start; from then on it is replaced.
    One whose pulse stops for `patience` seconds is killed; 0 waits for ever.
    """

    def __init__(
        self,
        roles: Mapping[str, Role],
        live: Callable[[], None],
        ready: Callable[[str], None],
        patience: float,
    ) -> None:
        self._roles = roles
        self._on_live = live
        self._on_ready = ready
        self._patience = patience
        # When the pulses were last felt, in seconds of the monotonic clock.
        self._felt = time.monotonic()
        # Ids of those that have been told to say where they are.
        self._hanging: set[int] = set()
        self._reports = Reports()
        self._children: dict[int, Child] = {}
        # When to start what has ended too early, in seconds of the monotonic clock.
        self._due: dict[str, float] = {}
        self._not_live = set(roles)
        self._announcement: str | None = None
        self._has_started = False
        self._is_stopping = False
        self._failure = ""

    def run(self) -> None:
        """Return once a signal has stopped all; ServingError where the start fails."""
        # The memory that all share is not to be written to by any collector.
        gc.freeze()
        with (
            contextlib.closing(self._reports),
            _signals() as signals,
            selectors.DefaultSelector() as selector,
        ):
            selector.register(signals, selectors.EVENT_READ)
            selector.register(self._reports.inbox, selectors.EVENT_READ)
            for name in self._roles:
                self._start(name)
            while self._children or self._due:
                selector.select(self._leisure())
                self._look(signals)
        if self._failure:
            raise ServingError(self._failure)
        logger.info("stopped")

    def _look(self, signals: socket.socket) -> None:
        """Do what there is to do."""
        numbers = _received(signals)
        # Before a child's end, what it said of it.
        for report in self._reports.received():
            self._heed(report)
        if signal.SIGCHLD in numbers:
            self._reap()
        for number in numbers:
            if number in children.FORWARDED:
                self._stop(signal.Signals(number))
        now = time.monotonic()
        for name in [name for name, due in self._due.items() if due <= now]:
            del self._due[name]
            self._start(name)
        if self._patience and now >= self._felt + INTERVAL:
            self._feel(now)

    def _leisure(self) -> float | None:
        """How long there is nothing to do but to listen, in seconds; None: for ever."""
        times = list(self._due.values())
        if self._patience:
            times.append(self._felt + INTERVAL)
        return max(0.0, min(times) - time.monotonic()) if times else None

    def _feel(self, now: float) -> None:
        """Feel the pulse of each process, and kill those that hang."""
        # Where this process has been stopped for longer, so have been the others.
        elapsed = min(now - self._felt, 2 * INTERVAL)
        self._felt = now
        for child in self._children.values():
            silence = child.pulse.silence(elapsed)
            if silence < self._patience:
                self._hanging.discard(child.pid)
            elif child.pid in self._hanging:
                child.send(signal.SIGKILL)
            else:
                self._hanging.add(child.pid)
                logger.error(
                    "the %s (process %d) has not turned its event loop for %.0f s: killing it, "
                    "once it has written where it is to standard error",
                    child.name,
                    child.pid,
                    silence,
                )
                child.send(children.WHERE)

    def _start(self, name: str) -> None:
        try:
            child = children.start(name, self._roles[name], self._reports)
        except OSError as error:
            # Such as for want of memory, which is why others end as well.
            if not self._has_started:
                raise ServingError(f"the {name} cannot be started: {error.strerror}") from error
            logger.error("the %s cannot be started, trying again: %s", name, error.strerror)
            self._due[name] = time.monotonic() + _PROBATION
            return
        self._children[child.pid] = child
        logger.info("the %s is process %d", name, child.pid)

    def _heed(self, report: Report) -> None:
        if report.event == "failed":
            if self._has_started:
                logger.error("the %s failed: %s", report.child, report.text)
            else:
                self._failure = self._failure or report.text
        elif report.event == "ready":
            self._announcement = report.text
        elif report.child in self._not_live:
            self._not_live.discard(report.child)
            if not self._not_live:
                self._on_live()
        is_ready = self._announcement is not None and not self._not_live
        if is_ready and not self._has_started and not self._is_stopping:
            self._has_started = True
            self._on_ready(self._announcement or "")

    def _reap(self) -> None:
        for pid, child in list(self._children.items()):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                del self._children[pid]
                self._hanging.discard(pid)
                if not self._is_stopping:
                    self._replace(child, status)

    def _replace(self, child: Child, status: int) -> None:
        why = _reason(status)
        if not self._has_started:
            self._failure = self._failure or f"the {child.name} ended at its start: {why}"
            self._end(signal.SIGTERM)
            return
        now = time.monotonic()
        is_stable = now - child.since >= _PROBATION
        self._due[child.name] = now if is_stable else now + _PROBATION
        logger.error("the %s (process %d) ended: %s; starting another", child.name, child.pid, why)

    def _stop(self, number: signal.Signals) -> None:
        """Have all finish what they have accepted; at the second signal, end at once."""
        if self._is_stopping:
            self._end(signal.SIGKILL)
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)
        logger.info("stopping: no longer ready, finishing what was accepted")
        self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> None:
        self._is_stopping = True
        self._due.clear()
        for child in self._children.values():
            child.send(number)


@contextlib.contextmanager
def _signals() -> Iterator[socket.socket]:
    """Where the numbers of the signals come, a byte each, that matter to a supervisor."""
    inbox, outbox = socket.socketpair()
    caught = (*children.FORWARDED, signal.SIGCHLD)
    with inbox, outbox:
        inbox.setblocking(False)
        outbox.setblocking(False)
        before = {number: signal.signal(number, lambda *_: None) for number in caught}
        signal.set_wakeup_fd(outbox.fileno())
        try:
            yield inbox
        finally:
            signal.set_wakeup_fd(-1)
            for number, handler in before.items():
                signal.signal(number, handler)


def _received(signals: socket.socket) -> list[int]:
    try:
        return list(signals.recv(4096))
    except BlockingIOError:
        return []


def _reason(status: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return f"exit code {code}"
    # Of the real-time signals only the first and the last have a name.
    named = -code in set(signal.Signals)
    return f"signal {signal.Signals(-code).name if named else -code}"
