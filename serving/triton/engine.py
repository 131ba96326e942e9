"""The engine in front of Triton servers: what a gateway asks, they answer."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from contextlib import aclosing, contextmanager, suppress
from dataclasses import replace
from typing import Any, Final

from msgspec import structs
from tritonclient.grpc import service_pb2

from serving.engine.batching.batch import BatchReport
from serving.errors import Code, Internal, InvalidArgument, LoadFailed, ServingError
from serving.settings import Settings
from serving.statistics import CacheStatistics, ServerStatistics, VersionStatistics
from serving.triton.counting import Counting
from serving.triton.descriptions import Descriptions
from serving.triton.dialling import Dialling
from serving.triton.fleet import Fleet
from serving.triton.gathering import Gathering
from serving.triton.link import soon
from serving.triton.sequences import Sequences
from serving.types import (
    IndexEntry,
    InferenceRequest,
    InferenceResponse,
    LoadOverride,
    ModelMetadata,
    ServerMetadata,
)
from serving.wire import proto_client, proto_replies

logger = logging.getLogger("penstock.triton")

# Extensions that tell of this process, if it has them, whatever the servers have.
_IN_THE_GATEWAY: Final = ("cuda_shared_memory", "logging", "system_shared_memory", "trace")


class TritonEngine:
    """Has the servers of `--triton-url` answer; to be used on one event loop.

    Which models there are, how they are batched and who may change them is their business.
    """

    def __init__(self, settings: Settings) -> None:
        self._grace = float(settings.exit_timeout_secs)
        self._servers = settings.triton_servers
        self._watchers: list[Callable[[], None]] = []
        self._fleet = Fleet(self._servers, Dialling(settings), self._changed)
        self._descriptions = Descriptions(self._fleet)
        self._sequences = Sequences()
        self._counting = Counting(settings.metrics)
        self._gathering: Gathering | None = None
        if settings.gateway_batching:
            self._gathering = Gathering(
                self._fleet, self._descriptions, settings.max_queue_size, self._executed
            )
        self._closing = False

    async def start(self) -> None:
        """Ask the servers whether they are ready; without any, the gateway waits for them."""
        await self._fleet.open()
        if not self._fleet.is_ready:
            logger.warning(
                "no Triton server at %s is ready yet: neither is this one, until one of them is",
                ", ".join(self._servers),
            )

    async def ready(self) -> bool:
        """True while one of the servers is ready."""
        return self._fleet.is_ready and not self._closing

    async def metadata(self) -> ServerMetadata:
        """What a server says of itself, without the extensions that live in the gateway."""
        request = service_pb2.ServerMetadataRequest()
        reply = await self._fleet.call("ServerMetadata", request, soon())
        said = proto_replies.server_metadata(reply)
        theirs = tuple(name for name in said.extensions if name not in _IN_THE_GATEWAY)
        return replace(said, extensions=theirs)

    async def model_ready(self, model: str, version: str = "") -> bool:
        """True if a server says so."""
        request = service_pb2.ModelReadyRequest(name=model, version=version)
        try:
            return bool((await self._fleet.call("ModelReady", request, soon())).ready)
        except InvalidArgument:
            raise
        except ServingError:
            return False

    async def model_metadata(self, model: str, version: str = "") -> ModelMetadata:
        """The model's signature; its passport lies where the server is, which does not tell it."""
        return await self._descriptions.metadata(model, version)

    async def labels(self, model: str, version: str = "") -> Mapping[str, tuple[str, ...]]:
        """The class names, asked for once by a classification of zeros."""
        return await self._descriptions.labels(model, version)

    async def model_config(self, model: str, version: str = "") -> Any:
        """The complete configuration, as the server has it."""
        return await self._descriptions.config(model, version)

    async def statistics(self, model: str = "", version: str = "") -> Sequence[VersionStatistics]:
        """What all servers together have counted, whoever asked them."""
        request = service_pb2.ModelStatisticsRequest(name=model, version=version)
        replies, errors = await self._fleet.call_all("ModelStatistics", request, soon())
        if not replies:
            raise errors[0]
        return proto_replies.statistics(replies)

    async def counted(self) -> Sequence[VersionStatistics]:
        """What has gone through this gateway."""
        if self._gathering is not None:
            for (model, version), queued in self._gathering.queues.items():
                self._counting.queued(model, version, *queued)
        return self._counting.all

    async def cache_statistics(self) -> CacheStatistics | None:
        """None: the servers' own metrics tell of their caches."""
        return None

    async def servers(self) -> Sequence[ServerStatistics]:
        """How the servers do, and what has become of the calls to them."""
        return self._fleet.statistics()

    async def unloaded(self) -> Sequence[str]:
        """None: what the servers load is theirs to tell."""
        return ()

    async def infer(self, request: InferenceRequest) -> InferenceResponse:
        """Have the server with the least to do answer; every outcome is counted."""
        with self._counted(request) as began:
            gathered = await self._gathering.infer(request) if self._gathering else None
            if gathered is not None:
                elapsed = time.monotonic_ns() - began
                self._counting.gathered(request, gathered.response, elapsed, gathered.timing)
                return structs.replace(gathered.response, timing=gathered.timing)
            async with self._sequences.step(request) as home:
                message = proto_client.encode_request(request)
                reply = await self._fleet.call("ModelInfer", message, request.deadline, home)
            response = proto_client.decode_response(reply)
            return await self._answered(request, response, began)

    async def stream(self, request: InferenceRequest) -> AsyncGenerator[InferenceResponse, None]:
        """The responses as they come; one, unless the model is decoupled."""
        config = await self._descriptions.config(request.model, request.version)
        if not config.model_transaction_policy.decoupled:
            yield structs.replace(await self.infer(request), is_last=True)
            return
        last = None
        with self._counted(request) as began:
            async with self._sequences.step(request) as home:
                message = proto_client.encode_request(request, is_streamed=True)
                replies = self._fleet.stream(message, request.deadline, home)
                async with aclosing(replies):
                    async for reply in replies:
                        response = proto_client.decode_response(reply)
                        # The end alone has no outputs.
                        if response.outputs:
                            last = response
                            yield response
            # What cannot be told now is no reason to fail.
            with suppress(ServingError):
                await self._answered(request, last or await self._nothing(request), began)

    async def index(self, ready_only: bool = False) -> Sequence[IndexEntry]:
        """Every model of a server's repositories."""
        request = service_pb2.RepositoryIndexRequest(ready=ready_only)
        return proto_replies.repository_index(
            await self._fleet.call("RepositoryIndex", request, soon())
        )

    async def load(self, model: str, override: LoadOverride) -> None:
        """Have all servers load the model; LoadFailed tells of the first that cannot."""
        await self._control("RepositoryModelLoad", proto_client.encode_load(model, override))

    async def unload(self, model: str, dependents: bool = False) -> None:
        """Have all servers take the model out of service."""
        await self._control("RepositoryModelUnload", proto_client.encode_unload(model, dependents))

    def watch(self, changed: Callable[[], None]) -> None:
        """Have `changed` called whenever a server comes, goes, or is ready or not."""
        self._watchers.append(changed)

    async def finish_sequences(self) -> None:
        """Return at once: sequences live in the servers, which another gateway can ask as well."""

    async def close(self) -> None:
        """End the connections, once the servers have answered what they were asked."""
        self._closing = True
        if self._gathering is not None:
            await self._gathering.close()
        await self._fleet.close(self._grace)

    def _changed(self) -> None:
        for changed in self._watchers:
            changed()

    def _executed(self, model: str, version: str, report: BatchReport) -> None:
        if report.has_run:
            self._counting.executed(model, version, report.rows, report.timing)

    async def _control(self, method: str, message: Any) -> None:
        try:
            _, errors = await self._fleet.call_all(method, message)
        finally:
            self._descriptions.forget()
            # It may be ready by this, or no longer.
            await self._fleet.check()
        for error in errors:
            # Triton's word for what is wrong with a model.
            raise LoadFailed(error.message) if isinstance(error, Internal) else error

    @contextmanager
    def _counted(self, request: InferenceRequest) -> Iterator[int]:
        """When the request began, in monotonic nanoseconds; what ends it too early is counted."""
        began = time.monotonic_ns()
        try:
            yield began
        except ServingError as error:
            self._counting.failed(request, error.code, time.monotonic_ns() - began)
            raise
        except (asyncio.CancelledError, GeneratorExit):
            self._counting.failed(request, Code.CANCELLED, time.monotonic_ns() - began)
            raise

    async def _nothing(self, request: InferenceRequest) -> InferenceResponse:
        """In the place of responses where there were none: Triton's end names no version."""
        found = await self._descriptions.metadata(request.model, request.version)
        return InferenceResponse(request.model, found.version, ())

    async def _answered(
        self, request: InferenceRequest, response: InferenceResponse, began: int
    ) -> InferenceResponse:
        elapsed = time.monotonic_ns() - began
        if not self._counting.knows(request.model):
            # What cannot be told now is no reason to keep the answer back.
            with suppress(ServingError):
                config = await self._descriptions.config(request.model, request.version)
                self._counting.learn(request.model, config.max_batch_size)
        return structs.replace(response, timing=self._counting.answered(request, response, elapsed))
