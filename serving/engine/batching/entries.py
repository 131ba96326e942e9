"""What waits, and the seam between how it is scheduled and what runs it.

A queue is a data structure without a runtime or a clock. Times are nanoseconds of one monotonic
clock that the caller reads; durations are nanoseconds.
"""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Final, Generic, NamedTuple, Protocol, TypeAlias, TypeVar

from msgspec import Struct

from serving.errors import Code, DeadlineExceeded, Overloaded, ServingError

T = TypeVar("T", bound=Hashable)

SequenceId: TypeAlias = int | str

# What a queue says of a request, whose id it does not know: whoever asked it names the request. One
# that has waited too long is not named, as it is not by Triton.
UNNAMED: Final = Code.OVERLOADED


@dataclass(slots=True)
class Step:
    """Where a request stands in its sequence; `slot` is the sequence's, once the step is taken.

    An instance has as many slots as it takes sequences at a time; until its sequence has ended, no
    other has that slot of that instance.
    """

    sequence: SequenceId
    start: bool
    end: bool
    slot: int = -1


class Entry(Struct, Generic[T], eq=False):
    """One request that waits; `item` is unique among those waiting.

    `rows`           what it counts for in a batch
    `key`            entries of equal keys may run in one batch
    `at`             when it arrived; not before the entry pushed before it
    `deadline`       when its caller stops waiting
    `due`            when its answer is wanted, for which its batch stops waiting for company
    `queue_timeout`  how long it wishes to wait at most; 0 leaves it to the policy
    `priority`       which level of the policy it asks for; 0 leaves it to the policy
    `step`           its place in a sequence, if it belongs to one
    """

    item: T
    rows: int
    key: Hashable
    at: int
    deadline: int | None = None
    queue_timeout: int = 0
    priority: int = 0
    step: Step | None = None
    due: int | None = None


class Refusal(NamedTuple, Generic[T]):
    """An entry that has left without being taken, and why."""

    entry: Entry[T]
    error: ServingError


def full(limit: int) -> Overloaded:
    """Why an entry may not wait where `limit` others do."""
    return Overloaded(f"Exceeds maximum queue size of {limit} requests")


def too_late() -> DeadlineExceeded:
    """Why an entry waits no longer."""
    return DeadlineExceeded("Request timeout expired")


class Queue(Protocol[T]):
    """The requests that wait for the instances of one model version."""

    def __len__(self) -> int:
        """Requests that wait."""

    @property
    def rows(self) -> int:
        """Rows that wait."""

    @property
    def batches(self) -> int:
        """Batches that what waits will make."""

    def line_to(self, entry: Entry[T]) -> tuple[int, int, int]:
        """The rows and batches to run until `entry` has, its own included, if it came now.

        And its level, the lower of which are overtaken; 0 where there are none.
        """

    @property
    def expires_at(self) -> int | None:
        """When `expire` will have something to do."""

    def push(self, entry: Entry[T]) -> None:
        """Let `entry` wait; a ServingError if it may not."""

    def discard(self, item: T) -> bool:
        """Forget `item`; False if it does not wait here (any more)."""

    def expire(self, now: int) -> list[Refusal[T]]:
        """Remove the entries that shall wait no longer; to be called before `take`."""

    def take(self, now: int, instance: int = 0) -> tuple[list[Entry[T]], int | None]:
        """Remove and return the next batch for `instance`, which is idle; no entries to wait.

        Beside it: the earliest time at which `take` or `expire` could give something (more). A
        time that has passed means at once; None means not before another push.
        """

    @property
    def has_sequences(self) -> bool:
        """Whether sequences have begun that further requests may belong to."""

    def stop_sequences(self) -> None:
        """From now on, no sequence begins; those that have begun go on."""

    def flush(self) -> None:
        """From now on, nothing waits for company."""
