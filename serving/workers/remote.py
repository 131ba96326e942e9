"""The engine as a worker has it: in another process, which all workers share."""

import asyncio
import socket
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing, suppress
from typing import Any, Final

from tritonclient.grpc import model_config_pb2

from serving.errors import Unavailable
from serving.statistics import CacheStatistics, ServerStatistics, VersionStatistics
from serving.types import (
    IndexEntry,
    InferenceRequest,
    InferenceResponse,
    LoadOverride,
    ModelMetadata,
    ServerMetadata,
)
from serving.workers import inference, records, sharing
from serving.workers.link import Link
from serving.workers.sharing import Change

# Where another engine is being started, clients had better be told so than wait for a port.
_PATIENCE: Final = 1.0


class RemoteEngine:
    """Has the engine behind the door answer; to be used on one event loop.

    While there is none, nothing is ready, and whatever is asked raises Unavailable.
    """

    def __init__(self, outside: socket.socket) -> None:
        self._link = Link(outside, self._changed, self._apply)
        self._watchers: list[Callable[[], None]] = []
        self._followers: list[Callable[..., None]] = []

    async def start(self) -> None:
        """Connect; returns once the engine is there, or has not come for `_PATIENCE` seconds."""
        self._link.open()
        with suppress(TimeoutError):
            await asyncio.wait_for(self._link.is_up.wait(), _PATIENCE)

    @property
    def is_up(self) -> bool:
        """Whether the engine is there now."""
        return self._link.is_up.is_set()

    async def started(self) -> None:
        """Wait until the engine is there and has come to the end of its start."""
        await self._link.is_up.wait()
        await self._ask("started")

    async def ready(self) -> bool:
        """True while the engine is there and says so."""
        with suppress(Unavailable):
            return bool(await self._ask("ready"))
        return False

    async def metadata(self) -> ServerMetadata:
        """What the engine says of itself."""
        metadata: ServerMetadata = await self._ask("metadata")
        return metadata

    async def model_ready(self, model: str, version: str = "") -> bool:
        """True if the engine is there and says so."""
        with suppress(Unavailable):
            return bool(await self._ask("model_ready", model, version))
        return False

    async def model_metadata(self, model: str, version: str = "") -> ModelMetadata:
        """The model's signature and passport."""
        metadata: ModelMetadata = await self._ask("model_metadata", model, version)
        return metadata

    async def labels(self, model: str, version: str = "") -> Mapping[str, tuple[str, ...]]:
        """The class names of the outputs that have any."""
        labels: Mapping[str, tuple[str, ...]] = await self._ask("labels", model, version)
        return labels

    async def model_config(self, model: str, version: str = "") -> Any:
        """The complete configuration in force."""
        content = await self._link.ask("model_config", model, version)
        return model_config_pb2.ModelConfig.FromString(content)

    async def statistics(self, model: str = "", version: str = "") -> Sequence[VersionStatistics]:
        """What the engine has counted, whichever worker was asked; without summaries."""
        counted: Sequence[VersionStatistics] = await self._ask("statistics", model, version)
        return counted

    async def counted(self) -> Sequence[VersionStatistics]:
        """The same: workers count nothing."""
        return await self.statistics()

    async def cache_statistics(self) -> CacheStatistics | None:
        """Counters of the engine's response cache."""
        counted: CacheStatistics | None = await self._ask("cache_statistics")
        return counted

    async def servers(self) -> Sequence[ServerStatistics]:
        """Those that the engine asks."""
        servers: Sequence[ServerStatistics] = await self._ask("servers")
        return servers

    async def unloaded(self) -> Sequence[str]:
        """Those of the engine."""
        names: Sequence[str] = await self._ask("unloaded")
        return names

    async def infer(self, request: InferenceRequest) -> InferenceResponse:
        """Have the engine run the request, in a batch with those of other workers."""
        values = inference.from_request(request, self._link.content)
        return inference.to_response(await self._link.ask("infer", values))

    async def stream(self, request: InferenceRequest) -> AsyncGenerator[InferenceResponse, None]:
        """The responses, each once it is asked for, so that who reads slowly holds up the model."""
        values = inference.from_request(request, self._link.content)
        responses = self._link.follow("stream", values)
        async with aclosing(responses):
            async for response in responses:
                yield inference.to_response(response)

    async def index(self, ready_only: bool = False) -> Sequence[IndexEntry]:
        """Every model of the engine's repositories."""
        entries: Sequence[IndexEntry] = await self._ask("index", ready_only)
        return entries

    async def outdated(self) -> Sequence[str]:
        """The models whose folders have changed since the engine has loaded them."""
        names: Sequence[str] = await self._ask("outdated")
        return names

    async def load(self, model: str, override: LoadOverride) -> None:
        """Load a model, for all workers."""
        await self._ask("load", model, override)

    async def prepare(self, model: str, override: LoadOverride) -> AsyncGenerator[None, None]:
        """The steps of a load that this process makes as well; closing them abandons it there."""
        values = model, records.to_plain(override)
        async with aclosing(self._link.follow("prepare", *values)) as steps:
            async for step in steps:
                yield step

    async def unload(self, model: str, dependents: bool = False) -> None:
        """Take a model out of service, for all workers."""
        await self._ask("unload", model, dependents)

    async def share(self, *change: Any) -> None:
        """Have a change made in all workers, also in this one."""
        await self._ask("share", *change)

    async def apply(self, change: Change) -> None:
        """Have the engine's process make a change, if it is there; if not, it will find it."""
        with suppress(Unavailable):
            await self._link.ask("apply", *change)

    def follow(self, apply: Callable[..., None]) -> None:
        """Have `apply` called with each change that any worker shares."""
        self._followers.append(apply)

    def watch(self, changed: Callable[[], None]) -> None:
        """Have `changed` called when the engine comes or goes, and when models do."""
        self._watchers.append(changed)

    async def finish_sequences(self) -> None:
        """Wait for the sequences of all workers, which stop together."""
        with suppress(Unavailable):
            await self._ask("finish_sequences")

    async def close(self) -> None:
        """End the connection."""
        self._link.close()

    async def _ask(self, verb: str, *values: Any) -> Any:
        answer = await self._link.ask(verb, *map(records.to_plain, values))
        if isinstance(answer, list):
            return tuple(await records.in_turns(records.from_plain, answer))
        return records.from_plain(answer)

    def _changed(self) -> None:
        for changed in self._watchers:
            changed()

    def _apply(self, change: Change) -> None:
        for apply in self._followers:
            sharing.make(apply, change)
