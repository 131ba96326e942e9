"""The gRPC service of the Open Inference Protocol; each method asks the engine one thing."""

import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final, TypeAlias

import grpc
from google.protobuf.message import DecodeError, Message
from grpc_health.v1 import health, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from tritonclient.grpc import service_pb2

from serving.engine.base import Engine
from serving.errors import Code, InvalidArgument, Overloaded, ServingError
from serving.gateway.access import Access
from serving.gateway.errors import GRPC_STATUS
from serving.gateway.health import HealthService
from serving.gateway.lifecycle import Lifecycle
from serving.settings import Settings
from serving.wire import proto as wire
from serving.wire import proto_documents as documents

logger = logging.getLogger("penstock.grpc")

SERVICE: Final = service_pb2.DESCRIPTOR.services_by_name["GRPCInferenceService"]

# A message quotes what the client sent; in a header that grows too long, gRPC would refuse the
# whole answer.
_MAX_DETAILS: Final = 4096

Context: TypeAlias = grpc.aio.ServicerContext
Method: TypeAlias = Callable[[Any, Context], Awaitable[Message]]


class InferenceService:
    """The methods by their names in the protocol; errors leave as `ServingError`."""

    def __init__(self, engine: Engine, lifecycle: Lifecycle) -> None:
        self._engine = engine
        self._lifecycle = lifecycle
        self.methods: dict[str, Method] = {
            "ServerLive": self._server_live,
            "ServerReady": self._server_ready,
            "ModelReady": self._model_ready,
            "ServerMetadata": self._server_metadata,
            "ModelMetadata": self._model_metadata,
            "ModelConfig": self._model_config,
            "ModelStatistics": self._model_statistics,
            "ModelInfer": self._model_infer,
            "RepositoryIndex": self._repository_index,
        }

    async def _server_live(self, _: Message, __: Context) -> Message:
        return service_pb2.ServerLiveResponse(live=await self._lifecycle.live())

    async def _server_ready(self, _: Message, __: Context) -> Message:
        return service_pb2.ServerReadyResponse(ready=await self._lifecycle.ready())

    async def _model_ready(self, request: Any, _: Context) -> Message:
        ready = await self._lifecycle.model_ready(request.name, request.version)
        return service_pb2.ModelReadyResponse(ready=ready)

    async def _server_metadata(self, _: Message, __: Context) -> Message:
        return documents.server_metadata(await self._engine.metadata())

    async def _model_metadata(self, request: Any, _: Context) -> Message:
        metadata = await self._engine.model_metadata(request.name, request.version)
        return documents.model_metadata(metadata)

    async def _model_config(self, request: Any, _: Context) -> Message:
        config = await self._engine.model_config(request.name, request.version)
        return documents.model_config(config)

    async def _model_statistics(self, request: Any, _: Context) -> Message:
        statistics = await self._engine.statistics(request.name, request.version)
        return documents.statistics(statistics)

    async def _model_infer(self, message: Any, context: Context) -> Message:
        remaining = context.time_remaining()
        deadline = None if remaining is None else time.monotonic_ns() + int(remaining * 1e9)
        return wire.encode_infer(await self._engine.infer(wire.decode_infer(message, deadline)))

    async def _repository_index(self, request: Any, _: Context) -> Message:
        return documents.repository_index(await self._engine.index(request.ready))


def _guarded(name: str, method: Method, request_type: type[Message]) -> Any:
    """`method` as a gRPC handler: parses the message itself, turns every failure into a status."""

    async def call(content: bytes, context: Context) -> Message | None:
        access = Access("grpc", name, GRPC_STATUS[Code.CANCELLED].name)
        try:
            message = _parse(request_type, content)
            access.model = getattr(message, "model_name", "") or getattr(message, "name", "")
            reply = await method(message, context)
            access.status = grpc.StatusCode.OK.name
            return reply
        except ServingError as error:
            access.status = GRPC_STATUS[error.code].name
            await _abort(context, error)
        except Exception as error:
            logger.exception("%s failed", name, exc_info=error)
            access.status = GRPC_STATUS[Code.INTERNAL].name
            await context.abort(GRPC_STATUS[Code.INTERNAL], "internal error; see the server's log")
        finally:
            access.log()
        return None

    return grpc.unary_unary_rpc_method_handler(
        call, request_deserializer=None, response_serializer=lambda reply: reply.SerializeToString()
    )


def _parse(request_type: type[Message], content: bytes) -> Message:
    try:
        message: Message = request_type.FromString(content)
    except DecodeError as error:
        raise InvalidArgument(
            f"the message is not a valid {request_type.DESCRIPTOR.full_name}: {error}"
        ) from None
    return message


async def _abort(context: Context, error: ServingError) -> None:
    trailer: tuple[tuple[str, str], ...] = ()
    if isinstance(error, Overloaded):
        # What gRPC's retry policy reads; the counterpart of HTTP's Retry-After.
        trailer = (("grpc-retry-pushback-ms", str(max(1, int(error.retry_after * 1000)))),)
    await context.abort(GRPC_STATUS[error.code], error.message[:_MAX_DETAILS], trailer)


class RpcServer:
    """Listens on the gRPC port and answers inference, health and reflection."""

    def __init__(self, engine: Engine, lifecycle: Lifecycle, settings: Settings) -> None:
        self._service = InferenceService(engine, lifecycle)
        self._lifecycle = lifecycle
        self._settings = settings

    @asynccontextmanager
    async def listen(self) -> AsyncIterator[str]:
        """Serve while the block runs; requests in flight finish at its end. Gives host:port."""
        limit = self._settings.http_max_input_size
        server = grpc.aio.server(
            options=[
                ("grpc.max_receive_message_length", limit),
                ("grpc.max_send_message_length", -1),
                # A second server on the same port must fail to start, not share the traffic.
                ("grpc.so_reuseport", 0),
            ]
        )
        self._register(server)
        address = f"{self._settings.grpc_address}:{self._settings.grpc_port}"
        try:
            port = server.add_insecure_port(address)
        except RuntimeError as error:
            raise ServingError(
                f"cannot listen on {address}: {error}; choose another with --grpc-port"
            ) from error
        await server.start()
        try:
            yield f"{self._settings.grpc_address}:{port}"
        finally:
            await server.stop(grace=self._settings.exit_timeout_secs)

    def _register(self, server: Any) -> None:
        handlers = {
            name: _guarded(name, method, _message_type(SERVICE.methods_by_name[name].input_type))
            for name, method in self._service.methods.items()
        }
        server.add_generic_rpc_handlers(
            (grpc.method_handlers_generic_handler(SERVICE.full_name, handlers),)
        )
        health_pb2_grpc.add_HealthServicer_to_server(
            HealthService(self._lifecycle, {"", SERVICE.full_name}), server
        )
        reflection.enable_server_reflection(
            (SERVICE.full_name, health.SERVICE_NAME, reflection.SERVICE_NAME), server
        )


def _message_type(descriptor: Any) -> type[Message]:
    message_type: type[Message] = getattr(service_pb2, descriptor.name)
    return message_type
