"""The gRPC service of the Open Inference Protocol; each method asks the engine one thing."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import grpc
from google.protobuf.message import Message
from grpc_health.v1 import health, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc
from tritonclient.grpc import service_pb2

from serving.engine.base import Engine
from serving.errors import Decoupled, InvalidArgument, ServingError
from serving.gateway import (
    calls,
    cuda_shared_memory,
    grpc_ports,
    log_settings,
    repository,
    shared_memory,
    sockets,
    streaming,
    trace_settings,
    traced,
)
from serving.gateway.calls import Context, Method
from serving.gateway.errors import statuses
from serving.gateway.extensions import Extensions
from serving.gateway.health import HealthService
from serving.gateway.lifecycle import Lifecycle
from serving.gateway.precedence import tell_of_the_model
from serving.gateway.security import Security
from serving.gateway.server_timing import NAME, server_timing
from serving.inflight import Inflight
from serving.network_settings import GrpcImplementation
from serving.settings import Settings
from serving.wire import proto_documents as documents
from serving.wire import proto_fast as wire

SERVICE: Final = service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"]


class InferenceService:
    """The methods by their names in the protocol; errors leave as `ServingError`."""

    def __init__(self, engine: Engine, lifecycle: Lifecycle, extensions: Extensions) -> None:
        self._engine = engine
        self._extensions = extensions
        self._lifecycle = lifecycle
        self.methods: dict[str, Method] = {
            "ServerLive": self._server_live,
            "ServerReady": self._server_ready,
            "ModelReady": self._model_ready,
            "ServerMetadata": self._server_metadata,
            "ModelMetadata": self._model_metadata,
            "ModelConfig": self._model_config,
            "ModelStatistics": self._model_statistics,
            "ModelInfer": traced.unary(self._model_infer, extensions.tracer),
            **repository.methods(engine),
            **shared_memory.methods(extensions),
            **cuda_shared_memory.methods(),
            **log_settings.methods(extensions),
            **trace_settings.methods(engine, extensions),
        }

    async def _server_live(self, _: Message, __: Context) -> Message:
        return service_pb2.ServerLiveResponse(live=True)

    async def _server_ready(self, _: Message, __: Context) -> Message:
        return service_pb2.ServerReadyResponse(ready=await self._lifecycle.ready())

    async def _model_ready(self, request: Any, _: Context) -> Message:
        ready = await self._lifecycle.model_ready(request.name, request.version)
        return service_pb2.ModelReadyResponse(ready=ready)

    async def _server_metadata(self, _: Message, __: Context) -> Message:
        metadata = self._extensions.added_to(await self._engine.metadata())
        return documents.server_metadata(metadata)

    async def _model_metadata(self, request: Any, _: Context) -> Message:
        metadata = await self._engine.model_metadata(request.name, request.version)
        return documents.model_metadata(metadata)

    async def _model_config(self, request: Any, _: Context) -> Message:
        config = await self._engine.model_config(request.name, request.version)
        return documents.model_config(config)

    async def _model_statistics(self, request: Any, _: Context) -> Message:
        statistics = await self._engine.statistics(request.name, request.version)
        return documents.statistics(statistics)

    async def _model_infer(self, message: Any, context: Context) -> bytes:
        began = time.monotonic_ns()
        try:
            try:
                request, places = wire.decode(
                    message, self._extensions.regions, calls.deadline(context)
                )
            except InvalidArgument:
                await tell_of_the_model(self._engine, message.model_name, message.model_version)
                raise
            response = await self._engine.infer(request)
        except Decoupled:
            raise Decoupled.asked_over("ModelInfer RPC") from None
        except ServingError as error:
            error.took = time.monotonic_ns() - began
            raise
        answer = wire.encode(response, places)
        if response.timing is not None:
            told = server_timing(response.timing, time.monotonic_ns() - began)
            context.set_trailing_metadata(((NAME, told),))
        return answer


class RpcServer:
    """Listens on the gRPC port and answers inference, health and reflection."""

    def __init__(
        self,
        engine: Engine,
        lifecycle: Lifecycle,
        settings: Settings,
        extensions: Extensions,
        security: Security,
        inflight: Inflight | None = None,
    ) -> None:
        # The library's own server looks for no room, so that what is counted there refuses nobody.
        is_own = settings.grpc_implementation is GrpcImplementation.OWN
        self._inflight = inflight if inflight and is_own else Inflight(0)
        self._service = InferenceService(engine, lifecycle, extensions)
        self._statuses = statuses(settings.triton_status_codes)
        self._streams = streaming.Streams(
            streaming.Service(
                engine,
                extensions,
                settings.http_max_input_size,
                self._statuses,
                self._inflight,
            )
        )
        self._lifecycle = lifecycle
        self._settings = settings
        self._security = security

    @asynccontextmanager
    async def listen(self) -> AsyncIterator[str]:
        """Serve while the block runs; requests in flight finish at its end. Gives host:port."""
        port = grpc_ports.port(self._settings, self._security, self._statuses, self._inflight)
        self.register(port)
        address = self._settings.grpc_address
        try:
            number = await port.open()
        except (OSError, RuntimeError, UnicodeError) as error:
            wanted = self._settings.grpc_port
            raise sockets.unavailable(address, wanted, "--grpc-port", error) from error
        try:
            yield sockets.joined(address, number)
        finally:
            self._streams.drain()
            await port.close(self._settings.exit_timeout_secs)

    def register(self, server: Any) -> None:
        """Add the handlers of all services to `server`, as to a `grpc.aio.Server`."""
        handlers = {
            name: calls.unary(name, method, *_request(name), self._statuses)
            for name, method in self._service.methods.items()
        }
        handlers[streaming.METHOD] = self._streams.handler()
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(SERVICE.full_name, handlers),)
        )
        health_pb2_grpc.add_HealthServicer_to_server(
            HealthService(self._lifecycle, {"", SERVICE.full_name}), server
        )
        names = (SERVICE.full_name, health.SERVICE_NAME, reflection.SERVICE_NAME)
        reflection_pb2_grpc.add_ServerReflectionServicer_to_server(
            reflection.aio.ReflectionServicer(names), server
        )


def _request(method: str) -> tuple[type[Message], calls.Read]:
    """What the method's requests are, and how they are read."""
    name = SERVICE.methods_by_name[method].input_type.name
    request_type: type[Message] = getattr(service_pb2, name)
    return request_type, wire.read if method == "ModelInfer" else request_type.FromString
