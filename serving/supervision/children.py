"""Processes made by forking: they begin with all modules loaded, and share that memory."""

import faulthandler
import json
import logging
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, NamedTuple, NoReturn, TypeAlias

from serving import threads
from serving.errors import ServingError
from serving.orphans import end_with
from serving.supervision.pulse import Pulse

logger = logging.getLogger("penstock.server")

FORWARDED: Final = (signal.SIGINT, signal.SIGTERM)
_CAUGHT: Final = (*FORWARDED, signal.SIGCHLD)
# Has a child write to standard error where its event loop is, and go on.
WHERE: Final = signal.SIGUSR2
# In characters: what fits into one datagram of 208 KiB, though JSON writes six bytes for each.
_MAX_TEXT: Final = 35_000


class Report(NamedTuple):
    """What a child says of itself: `live`, `ready` or `failed`, and a text for people."""

    child: str
    event: str
    text: str = ""


# What a child does, given how to report an event with a text, and what is to beat meanwhile.
Role: TypeAlias = Callable[[Callable[[str, str], None], Pulse], None]


class Reports:
    """The way of reports from all children to their parent."""

    def __init__(self) -> None:
        self.inbox, self._outbox = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.inbox.setblocking(False)

    def send(self, report: Report) -> None:
        """Called by a child."""
        cut = report._replace(text=report.text[:_MAX_TEXT])
        self._outbox.send(json.dumps(cut).encode())

    def received(self) -> list[Report]:
        """What has come since the last time; called by the parent."""
        found = []
        while True:
            try:
                found.append(Report(*json.loads(self.inbox.recv(1 << 20))))
            except BlockingIOError:
                return found

    def close(self) -> None:
        """Close both ends in this process."""
        self.inbox.close()
        self._outbox.close()


@dataclass(frozen=True, slots=True)
class Child:
    """A running process, and since when it runs, in seconds of the monotonic clock."""

    name: str
    pid: int
    pulse: Pulse
    since: float = field(default_factory=time.monotonic)

    def send(self, number: signal.Signals) -> None:
        """Send a signal; the process is there until it has been waited for."""
        os.kill(self.pid, number)


def start(name: str, role: Role, reports: Reports) -> Child:
    """Run `role` in a process of its own, which does not outlive this one.

    To be called where no other thread runs, and no event loop.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    parent = os.getpid()
    pulse = Pulse()
    # What is sent to the child before it is one would be taken by the handlers of its parent.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _CAUGHT)
    try:
        pid = os.fork()
        if not pid:
            _detach(parent)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    if not pid:
        _run(name, role, reports, pulse)
    return Child(name, pid, pulse)


def _detach(parent: int) -> None:
    # Ctrl-C at a terminal reaches all of a group, and all would stop at once rather than in order.
    os.setpgid(0, 0)
    end_with(parent)
    signal.set_wakeup_fd(-1)
    for number in _CAUGHT:
        signal.signal(number, signal.SIG_DFL)
    # Signals go to the main thread, whose event loop it is about.
    faulthandler.register(WHERE, all_threads=False)


def _run(name: str, role: Role, reports: Reports, pulse: Pulse) -> NoReturn:
    """What a child does until its end; nothing of the parent's stack is ever returned to."""
    code = 1
    try:
        role(lambda event, text: reports.send(Report(name, event, text)), pulse)
        code = 0
    except ServingError as error:
        reports.send(Report(name, "failed", error.message))
    except BaseException as error:
        logger.critical("the %s failed", name, exc_info=error)
    finally:
        threads.end(code)
