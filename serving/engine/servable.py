"""What the engine keeps for each version of a model, whatever answers inside."""

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from msgspec import structs

from serving.config import ModelConfig
from serving.engine.acceleration import Acceleration
from serving.engine.backends.base import Session
from serving.errors import Decoupled
from serving.passport import Passport
from serving.statistics import VersionStatistics
from serving.types import Array, InferenceRequest, InferenceResponse


@dataclass(frozen=True, slots=True)
class Opened:
    """All that a version is made of, before it answers anything.

    `sessions` has one for each instance; instances that share one have the same. `initial_states`
    are what the states of a sequence are as it begins, by their inputs and without a batch.
    `run_times` are how many nanoseconds a run of so many rows took while the version warmed up,
    `load_duration` how many its load took. `tokenizer` is the text of the version's file of that
    name, for whoever makes inputs of texts; the engine makes no use of it. `acceleration` has the
    sessions that are to take the place of these, if any are.
    """

    config: ModelConfig
    version: str
    sessions: Sequence[Session]
    labels: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    passport: Passport | None = None
    initial_states: Mapping[str, Array] = field(default_factory=dict)
    run_times: Mapping[int, int] = field(default_factory=dict)
    load_duration: int = 0
    tokenizer: str = ""
    acceleration: Acceleration | None = None


class Servable(Protocol):
    """One version that answers requests."""

    @property
    def opened(self) -> Opened:
        """What it was made of."""

    @property
    def statistics(self) -> VersionStatistics:
        """The counters as they stand."""

    async def infer(self, request: InferenceRequest) -> InferenceResponse:
        """Answer one request; whatever comes of it is counted."""

    def stream(self, request: InferenceRequest) -> AsyncGenerator[InferenceResponse, None]:
        """Answer one request by any number of responses; whoever closes it early cancels."""

    async def finish_sequences(self) -> None:
        """Have no sequence begin any more; returns once those that have begun are over."""

    async def close(self) -> None:
        """Refuse new requests, answer the accepted ones, release what is held."""


class OneResponse:
    """The stream of a servable that answers every request once."""

    async def infer(self, request: InferenceRequest) -> InferenceResponse:
        """Answer one request."""
        raise NotImplementedError

    async def stream(self, request: InferenceRequest) -> AsyncGenerator[InferenceResponse, None]:
        """The one response."""
        yield structs.replace(await self.infer(request), is_last=True)


class ManyResponses:
    """The one answer of a servable that gives a request any number of responses: there is none."""

    async def infer(self, request: InferenceRequest) -> InferenceResponse:
        """Decoupled, always: a client sees what a model is, not how it is made."""
        raise Decoupled.asked_over("A request for one response")


# Finds the version of a model that answers at this moment ("" leaves the version to the policy);
# raises NotFound or Unavailable.
Find: TypeAlias = Callable[[str, str], Servable]
