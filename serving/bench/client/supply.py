"""What a load sends next: prepared requests in turn, or the steps of sequences."""

import secrets
import time
from collections.abc import Sequence
from itertools import cycle
from typing import Final, NamedTuple, Protocol

# Numbers of sequences lie from here to 2^63: all take as many digits, and as many bytes.
FIRST: Final = 10**18
_NUMBERS: Final = 8 * 10**18


class Live:
    """A sequence that has begun: its number, how many steps were sent, and when the last ended."""

    __slots__ = ("number", "sent", "used_at")

    def __init__(self, number: int) -> None:
        self.number = number
        self.sent = 0
        self.used_at = 0


class Supplied(NamedTuple):
    """The request of sample `body`, as bytes; and the sequence that it is a step of, if of any."""

    body: int
    content: bytes
    sequence: Live | None = None


class Supply(Protocol):
    """Says what is sent; for one load at a time."""

    def take(self) -> Supplied:
        """The next request."""

    def give_back(self, sequence: Live, is_answered: bool) -> None:
        """A step of a sequence has ended."""


class Turns:
    """Each of the prepared requests, again and again."""

    def __init__(self, bodies: Sequence[bytes]) -> None:
        self._turns = cycle([Supplied(body, content) for body, content in enumerate(bodies)])

    def take(self) -> Supplied:
        """The next request."""
        return next(self._turns)

    def give_back(self, sequence: Live, is_answered: bool) -> None:
        """There are none."""


class Template(NamedTuple):
    """A prepared step: what comes before the sequence's number, and behind it.

    `is_text` says whether the number is written in digits, or else as protobuf's varint.
    """

    before: bytes
    behind: bytes
    is_text: bool

    def of(self, number: int) -> bytes:
        """The request as that sequence's."""
        return b"".join((self.before, written(number, self.is_text), self.behind))


class Templates(NamedTuple):
    """A sample as any step of a sequence: neither its first nor its last, one of them, or both."""

    middle: Template
    first: Template
    last: Template
    only: Template


class Sequences:
    """Sequences of `length` steps, of which one at a time is under way.

    A sequence that has waited for `patience` nanoseconds for its next step is left as it is, and
    another begun: servers forget what is idle.
    """

    def __init__(self, samples: Sequence[Templates], length: int, patience: int) -> None:
        self._samples = cycle(enumerate(samples))
        self._length = length
        self._patience = patience
        self._next = FIRST + secrets.randbelow(_NUMBERS)  # of no other process, as good as surely
        self._idle: list[Live] = []

    def take(self) -> Supplied:
        """The next step of a sequence that waits for it, or the first of another."""
        live = self._fresh() or self._begin()
        body, steps = next(self._samples)
        live.sent += 1
        step = steps[(live.sent == 1) + 2 * (live.sent == self._length)]
        return Supplied(body, step.of(live.number), live)

    def give_back(self, sequence: Live, is_answered: bool) -> None:
        """A step has ended; of a sequence that failed nobody knows where it stands."""
        if is_answered and sequence.sent < self._length:
            sequence.used_at = time.monotonic_ns()
            self._idle.append(sequence)

    def _fresh(self) -> Live | None:
        """Who was used last, unless that is too long ago: then it is for all others."""
        if self._idle and time.monotonic_ns() - self._idle[-1].used_at > self._patience:
            self._idle.clear()
        return self._idle.pop() if self._idle else None

    def _begin(self) -> Live:
        self._next += 1
        return Live(self._next)


def written(number: int, is_text: bool) -> bytes:
    """The number of a sequence as a request holds it."""
    if is_text:
        return b"%d" % number
    groups = []
    while number > 0x7F:
        groups.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes((*groups, number))
