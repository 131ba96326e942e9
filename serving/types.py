"""The values that travel through the server: no web, no wire, no runtime in them.

All times are nanoseconds of the monotonic clock (`time.monotonic_ns`); durations are nanoseconds.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
from msgspec import Struct

from serving.dtypes import Datatype

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]
Parameter: TypeAlias = bool | int | float | str
Parameters: TypeAlias = Mapping[str, Parameter]


class Tensor(Struct, frozen=True):
    """A named array. `array.dtype` is `datatype.numpy`; the shape includes the batch dimension."""

    name: str
    datatype: Datatype
    array: Array


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """What a model accepts or returns under a name; -1 in `dims` is a variable dimension.

    Whether `dims` includes the batch dimension is said where the spec is kept.
    """

    name: str
    datatype: Datatype
    dims: tuple[int, ...]
    optional: bool = False


def fits(shape: Sequence[int], dims: Sequence[int]) -> bool:
    """Whether `shape` is one of `dims`, of which -1 are of any size."""
    return len(shape) == len(dims) and all(
        dim in (-1, size) for size, dim in zip(shape, dims, strict=True)
    )


def may_be_alike(first: Sequence[int], second: Sequence[int]) -> bool:
    """Whether there is a shape of both dimensions, of which -1 are of any size."""
    return len(first) == len(second) and all(
        one == other or -1 in (one, other) for one, other in zip(first, second, strict=True)
    )


def shown(dims: Iterable[int]) -> str:
    """A shape as Triton's messages show it: [4,-1]."""
    return f"[{','.join(map(str, dims))}]"


class DeadlyValues(NamedTuple):
    """Values of inputs by which ONNX Runtime would end the process.

    `divisions` are pairs of inputs: of the first the smallest integer, where the second has a -1;
    "" is the second where the graph has its divisor from elsewhere. `lengths` are inputs that must
    be above 0.
    """

    divisions: frozenset[tuple[str, str]] = frozenset()
    lengths: frozenset[str] = frozenset()


NOTHING_DEADLY: Final = DeadlyValues()


@dataclass(frozen=True, slots=True)
class Signature:
    """A graph's own inputs and outputs, as its file states them; `dims` are the whole shape."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    deadly: DeadlyValues = NOTHING_DEADLY


class RequestedOutput(NamedTuple):
    """An output that the client asked for by name.

    `classification` > 0 asks for that many best classes, as `value:index:label`, in its stead.
    """

    name: str
    classification: int = 0


class InferenceRequest(Struct, frozen=True):
    """One request, as any protocol decodes it.

    `version` "" leaves the choice to the model's version policy. No `outputs` asks for all.
    `deadline` is the monotonic time after which nobody waits for the answer any more;
    `wants_one_response` whether it comes over a way that has room for one response only.
    """

    model: str
    inputs: tuple[Tensor, ...]
    version: str = ""
    id: str = ""
    outputs: tuple[RequestedOutput, ...] = ()
    parameters: Parameters = {}
    deadline: int | None = None
    wants_one_response: bool = False

    @property
    def label(self) -> str:
        """What messages about this request begin with."""
        return request_label(self.id)


def request_label(identifier: str) -> str:
    """What messages about the request of that id begin with, as Triton has it."""
    return f"[request id: {identifier or '<id_unknown>'}] "


class TimeoutAction(Enum):
    """What becomes of a request that waited longer than its queue timeout."""

    REJECT = "REJECT"
    DELAY = "DELAY"


@dataclass(frozen=True, slots=True)
class QueuePolicy:
    """How long and in what number requests may wait; durations in nanoseconds.

    `max_queue`     requests that may wait; more are refused
    `timeout`       how long a request may wait before `timeout_action`; 0: no limit
    `allow_timeout_override`  whether a request may shorten `timeout` by its own parameter
    """

    max_queue: int
    timeout: int = 0
    timeout_action: TimeoutAction = TimeoutAction.REJECT
    allow_timeout_override: bool = False


@dataclass(frozen=True, slots=True)
class BatchPolicy:
    """How requests of one model version are merged into batches.

    `max_rows`      rows that one execution takes; 1 for a model that does not batch
    `queue`         how requests may wait, at every level that `level_queues` does not name
    `merge`         False runs every request by itself
    `preferred`     batch sizes in rows that run as soon as they are reached, ascending
    `max_delay`     how long the oldest request may wait for company, in nanoseconds
    `preserve_ordering`  whether answers leave in the order in which the requests came
    `priority_levels`    how many there are, 1 being the highest; 0: all requests are equal
    `default_level`      the level of a request that states none, or one that does not exist
    """

    max_rows: int
    queue: QueuePolicy
    merge: bool = True
    preferred: tuple[int, ...] = ()
    max_delay: int = 0
    preserve_ordering: bool = False
    priority_levels: int = 0
    default_level: int = 0
    level_queues: Mapping[int, QueuePolicy] = field(default_factory=dict)

    @property
    def reachable(self) -> frozenset[int]:
        """The preferred sizes that a batch can have."""
        return frozenset(size for size in self.preferred if size <= self.max_rows)

    @property
    def goal(self) -> int:
        """The rows beyond which nothing is gained by more."""
        return max(self.reachable, default=self.max_rows) if self.merge else 1

    def level(self, priority: int) -> int:
        """The level of a request with this `priority` parameter."""
        return priority if 0 < priority <= self.priority_levels else self.default_level

    def queue_at(self, level: int) -> QueuePolicy:
        """How requests of `level` may wait."""
        return self.level_queues.get(level, self.queue)


@dataclass(frozen=True, slots=True)
class SequencePolicy:
    """How sequences of requests share the instances of one model version; times in nanoseconds.

    `slots`      sequences that an instance has in hand at a time; further ones wait until one ends
    `max_idle`   how long a sequence may have nothing to do before it is given up
    `max_queue`  requests that may wait, of all sequences together; more are refused
    `max_delay`  how long a request may wait for those of other sequences
    `utilization`  the share of the slots that must have a request for it not to wait; 0: any
    `merge`      how the requests of an instance are merged, in any order; None gives each sequence
                 the row of its slot in every batch
    """

    slots: int
    max_idle: int
    max_queue: int
    max_delay: int = 0
    utilization: float = 0.0
    merge: BatchPolicy | None = None


class Timing(Struct, frozen=True):
    """Where the time of one request went; durations in nanoseconds.

    `queue` is all of the wait until its batch ran; of that, `company` is how long there was an
    instance free and the batch waited for more requests. `queued_at` is when its queue began; 0
    where it had none of its own.
    """

    queue: int
    compute_input: int
    compute_infer: int
    compute_output: int
    batch_rows: int
    company: int = 0
    queued_at: int = 0


class InferenceResponse(Struct, frozen=True):
    """The answer to one request, or one of several; `version` is the version that really ran.

    `is_last` where it is known, as it comes, that the request gets no other behind it.
    """

    model: str
    version: str
    outputs: tuple[Tensor, ...]
    id: str = ""
    parameters: Parameters = {}
    timing: Timing | None = None
    is_last: bool = False


@dataclass(frozen=True, slots=True)
class ServerMetadata:
    """Who answers, and which extensions of the protocol it implements."""

    name: str
    version: str
    extensions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ModelMetadata:
    """What a client must know to call a model.

    `dims` of `inputs` and `outputs` begin with -1 where the model batches (`max_batch_size` > 0).
    `formats` gives the layout of image inputs (`FORMAT_NCHW`, …) where the configuration states it;
    `passport` is the proof that travelled with the version, `tokenizer` the text of the
    `tokenizer.json` that did, by which texts become inputs.
    """

    name: str
    version: str
    versions: tuple[str, ...]
    platform: str
    max_batch_size: int
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    formats: Mapping[str, str] = field(default_factory=dict)
    passport: Mapping[str, Any] | None = None
    tokenizer: str = ""


@dataclass(frozen=True, slots=True)
class LoadOverride:
    """What a load takes in the place of what the repository holds.

    `config` is the JSON of a ModelConfig; None leaves the model's file in force. `files` replace
    the model's folder, contents by path below it such as `1/model.onnx`; they need a `config`.
    """

    config: str | None = None
    files: Mapping[str, bytes] = field(default_factory=dict)


class ModelState(Enum):
    """A version's place in its life, by the names the repository index uses."""

    UNKNOWN = "UNKNOWN"
    READY = "READY"
    UNAVAILABLE = "UNAVAILABLE"
    LOADING = "LOADING"
    UNLOADING = "UNLOADING"


@dataclass(frozen=True, slots=True)
class IndexEntry:
    """One line of the repository index; version and state are empty for a model never loaded."""

    name: str
    version: str = ""
    state: ModelState | None = None
    reason: str = ""
