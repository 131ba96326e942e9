"""The seam between loads and protocols: a call, and what makes it."""

from collections.abc import Callable
from typing import Any, Protocol

from serving.bench.client.supply import Live
from serving.bench.client.tally import Failure


class Call:
    """One request under way; times in nanoseconds of the monotonic clock.

    `body`      which of the prepared samples it asks
    `due`       when it was to be sent: what its latency is counted from
    `deadline`  when nobody waits for its answer any more
    `content`   what is sent: an HTTP request, or a serialised message
    `sequence`  which sequence it is a step of, if of any
    """

    __slots__ = ("body", "content", "deadline", "due", "sequence")

    def __init__(
        self, body: int, due: int, deadline: int, content: bytes, sequence: Live | None = None
    ) -> None:
        self.body = body
        self.due = due
        self.deadline = deadline
        self.content = content
        self.sequence = sequence


class Ending:
    """How a call ended.

    `failure`      None if the answer is right
    `is_lost`      True where there was nobody to answer: asking again at once is no use
    `timing`       the server's own account, a Server-Timing header's value, if it gave one
    """

    __slots__ = ("failure", "is_lost", "timing")

    def __init__(
        self, failure: Failure | None, is_lost: bool = False, timing: str | bytes | None = None
    ) -> None:
        self.failure = failure
        self.is_lost = is_lost
        self.timing = timing


Ended = Callable[[Call, int, Ending], Any]


class Check(Protocol):
    """Whether an answer is right: what is wrong with it, or None."""

    def __call__(self, body: int, answer: bytes, json_length: int | None) -> str | None: ...


class Caller(Protocol):
    """Sends calls over one protocol.

    `call` returns at once; `ended` is called later, never from within `call`, exactly once per call
    with the time at which the call ended, unless the caller is closed before.
    """

    ended: Ended

    async def open(self, connections: int) -> None:
        """Connect as often as that, so that no call has to; failing is left to the calls."""

    def call(self, call: Call) -> None:
        """Send it."""

    async def close(self) -> None:
        """Drop what is under way, without a word."""
