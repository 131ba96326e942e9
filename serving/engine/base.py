"""The seam between protocols and whatever executes models: all that a gateway may ask."""

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from typing import Any, Protocol, cast

from serving.statistics import CacheStatistics, ServerStatistics, VersionStatistics
from serving.types import (
    IndexEntry,
    InferenceRequest,
    InferenceResponse,
    LoadOverride,
    ModelMetadata,
    ServerMetadata,
)


class Engine(Protocol):
    """Executes models for the gateway. Every method raises `serving.errors.ServingError` only.

    `version` "" always means: the version that the model's policy prefers.
    """

    async def ready(self) -> bool:
        """True once every model it was told to serve answers, until it begins to close."""

    async def metadata(self) -> ServerMetadata:
        """Name, version and implemented extensions."""

    async def model_ready(self, model: str, version: str = "") -> bool:
        """True if that version answers requests; False if not, or if it is unknown.

        InvalidArgument for what is no version at all.
        """

    async def model_metadata(self, model: str, version: str = "") -> ModelMetadata:
        """The model's signature; NotFound if there is no such model or version."""

    async def labels(self, model: str, version: str = "") -> Mapping[str, tuple[str, ...]]:
        """The class names of the outputs that have any, in the order of the classes."""

    async def model_config(self, model: str, version: str = "") -> Any:
        """The complete `inference.ModelConfig` message in force."""

    async def statistics(self, model: str = "", version: str = "") -> Sequence[VersionStatistics]:
        """Counters of one version, one model or (with no name) of all."""

    async def counted(self) -> Sequence[VersionStatistics]:
        """What this process has counted itself, for its metrics; whatever happens, it answers."""

    async def cache_statistics(self) -> CacheStatistics | None:
        """Counters of the response cache; None if there is none."""

    async def servers(self) -> Sequence[ServerStatistics]:
        """The servers elsewhere that execute the models; none where this process does."""

    async def unloaded(self) -> Sequence[str]:
        """The models that are wanted and could not be loaded, or not as they are now."""

    async def infer(self, request: InferenceRequest) -> InferenceResponse:
        """Answer one request."""

    def stream(self, request: InferenceRequest) -> AsyncGenerator[InferenceResponse, None]:
        """Answer one request by any number of responses; whoever closes it early cancels."""

    async def index(self, ready_only: bool = False) -> Sequence[IndexEntry]:
        """Every model of the repositories with its versions' states."""

    async def load(self, model: str, override: LoadOverride) -> None:
        """Load or reload a model, as it is given if it is; the old one serves until it is ready."""

    async def unload(self, model: str, dependents: bool = False) -> None:
        """Take a model out of service after the requests it has accepted."""

    def watch(self, changed: Callable[[], None]) -> None:
        """Have `changed` called whenever what is ready may be other than before."""

    async def finish_sequences(self) -> None:
        """Have no sequence begin any more; returns once those that have begun are over."""

    async def close(self) -> None:
        """Refuse new requests, answer the accepted ones, release everything."""


class Around:
    """An engine around `inner`: what it has no method for is the inner one's."""

    def __init__(self, inner: Engine) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    @property
    def engine(self) -> Engine:
        """This, as others take it."""
        return cast(Engine, self)
