"""ModelStreamInfer: many requests on one call, which run beside each other and are batched.

The responses of models that give exactly one come in the order of the requests; those of decoupled
models come as they are made and hold up nobody. An error answers its request and the stream goes
on, unless the call's metadata has `triton_grpc_error: true`: then the first one ends the stream.
"""

import asyncio
import logging
from contextlib import aclosing
from typing import Any, Final, NamedTuple

import grpc
from google.protobuf.message import Message
from tritonclient.grpc import service_pb2

from serving.engine.base import Engine
from serving.errors import UNEXPECTED, Code, Internal, ServingError, Unavailable
from serving.gateway import calls, traced
from serving.gateway.access import Access
from serving.gateway.calls import Context
from serving.gateway.errors import GRPC_STATUS, Statuses
from serving.gateway.extensions import Extensions
from serving.inflight import Inflight
from serving.together import Together
from serving.wire import proto, proto_stream

logger = logging.getLogger("penstock.grpc")

METHOD: Final = "ModelStreamInfer"
_ERRORS_AS_STATUS: Final = ("triton_grpc_error", "true")
# What one stream may have under way, from its reading to its last response.
_MAX_REQUESTS: Final = 1024


class Service(NamedTuple):
    """What all streams share; each has at most `limit` bytes of requests under way.

    `inflight` is the room for large ones, which the server looks for as they come.
    """

    engine: Engine
    extensions: Extensions
    limit: int
    statuses: Statuses
    inflight: Inflight


class Streams:
    """All streams of a server."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._readers: set[asyncio.Task[None]] = set()
        self._draining = False

    def handler(self) -> Any:
        """The method as gRPC takes it."""
        return grpc.stream_stream_rpc_method_handler(
            self._call, request_deserializer=None, response_serializer=calls.serialize
        )

    def drain(self) -> None:
        """Read no further; what was read is answered, and then its stream ends."""
        self._draining = True
        for reader in self._readers:
            reader.cancel()

    async def _call(self, _: Any, context: Context) -> None:
        error: ServingError | None = None
        try:
            if not await self._answer_all(_Stream(self._service, context)):
                error = Unavailable("the server is stopping and reads no further from this stream")
        except ServingError as failure:
            error = failure
        except grpc.aio.InternalError:
            logger.debug("%s: the client has gone before its last response", METHOD)
        try:
            if error:
                await calls.abort(context, error, self._service.statuses)
        finally:
            del error  # which refers to this frame

    async def _answer_all(self, stream: "_Stream") -> bool:
        """False where the client might have sent more than was read."""
        try:
            async with Together() as tasks:
                reader = tasks.start(stream.read(tasks))
                self._readers.add(reader)
                reader.add_done_callback(self._readers.discard)
                if self._draining:
                    reader.cancel()
        finally:
            stream.room.close()
        return not reader.cancelled()


class _Turn(NamedTuple):
    """A request's place among the responses: after `before`, and others after `done`.

    And what it takes: its bytes, and of all streams' room so many as are `held` for it.
    """

    before: asyncio.Event
    done: asyncio.Event
    is_decoupled: bool
    size: int
    held: int


class _Stream:
    """One stream: a reader, a task for each request, and one response at a time."""

    def __init__(self, service: Service, context: Context) -> None:
        self._service = service
        self._context = context
        self._deadline = calls.deadline(context)
        self._peer = context.peer()
        self.room: Final = _Room(_MAX_REQUESTS, service.limit, service.inflight)
        self._writing = asyncio.Lock()
        metadata = map(tuple, context.invocation_metadata() or ())
        self._errors_as_status = _ERRORS_AS_STATUS in metadata
        self._nobody = asyncio.Event()
        self._nobody.set()

    async def read(self, tasks: Together) -> None:
        """Begin a task for each request, in order, as long as there are any and room for them."""
        last = self._nobody
        while (content := await self._context.read()) is not grpc.aio.EOF:
            last = await self._begin(tasks, content, last)
            # Or it would stay until the next one comes.
            del content

    async def _begin(self, tasks: Together, content: bytes, last: asyncio.Event) -> asyncio.Event:
        """Begin with a request, `last` being the one before; what the next one comes after."""
        size = len(content)
        held = await self.room.enter(size)
        message: Any = calls.parse(service_pb2.ModelInferRequest, content)
        done = asyncio.Event()
        if await self._is_decoupled(message):
            turn = _Turn(self._nobody, done, True, size, held)
        else:
            turn = _Turn(last, done, False, size, held)
            last = done
        tasks.start(self._answer(message, turn))
        return last

    async def _is_decoupled(self, message: Any) -> bool:
        try:
            config = await self._service.engine.model_config(
                message.model_name, message.model_version
            )
        except ServingError:
            return False  # the same error will be the answer, in its turn
        return bool(config.model_transaction_policy.decoupled)

    async def _answer(self, message: Any, turn: _Turn) -> None:
        gone = GRPC_STATUS[Code.CANCELLED].name
        access = Access("grpc", METHOD, gone, message.model_name, peer=self._peer)
        try:
            with traced.streamed(self._service.extensions.tracer, self._context):
                await self._infer(message, turn)
            access.status = grpc.StatusCode.OK.name
        except grpc.aio.InternalError:
            raise
        except Exception as error:
            # No name of this frame may stay with the error, which refers to the frame.
            await self._fail(message, turn, access, _as_serving_error(error))
        finally:
            self.room.leave(turn.size, turn.held)
            access.log()
        turn.done.set()

    async def _fail(self, message: Any, turn: _Turn, access: Access, error: ServingError) -> None:
        access.status, access.error = self._service.statuses.grpc[error.code].name, error.message
        await turn.before.wait()
        if self._errors_as_status:
            try:
                raise error from None
            finally:
                del error
        await self._write(proto_stream.failure(message, error.message))

    async def _infer(self, message: Any, turn: _Turn) -> None:
        regions = self._service.extensions.regions
        request, places = proto.decode_infer_with(regions, message, self._deadline)
        wants_end = request.parameters.get(proto.WANT_EMPTY_FINAL)
        is_last = not turn.is_decoupled
        async with aclosing(self._service.engine.stream(request)) as responses:
            async for response in responses:
                is_last = response.is_last or not turn.is_decoupled
                answer = proto_stream.answer(response, places, is_last)
                await turn.before.wait()
                await self._write(answer)
        if wants_end and not is_last:
            await self._write(proto_stream.empty_final(message))

    async def _write(self, message: Message) -> None:
        async with self._writing:
            await self._context.write(message)


class _Room:
    """Bounds the requests under way, and their bytes; for one that waits at a time.

    A request larger than all of the room has it for itself. Large ones are counted in `inflight`.
    """

    def __init__(self, max_requests: int, max_bytes: int, inflight: Inflight) -> None:
        self._max_requests = max_requests
        self._max_bytes = max_bytes
        self._inflight = inflight
        self._requests = 0
        self._bytes = 0
        self._held = 0
        self._left = asyncio.Event()

    async def enter(self, size: int) -> int:
        """Wait for room; what is held of `inflight` from now on, for `leave` to give back."""
        held = self._inflight.take(size)
        self._held += held
        while self._requests >= self._max_requests or (
            self._requests and self._bytes + size > self._max_bytes
        ):
            self._left.clear()
            await self._left.wait()
        self._requests += 1
        self._bytes += size
        return held

    def leave(self, size: int, held: int) -> None:
        """A request is answered."""
        self._requests -= 1
        self._bytes -= size
        self._held -= held
        self._inflight.give_back(held)
        self._left.set()

    def close(self) -> None:
        """No request is left, whether it was answered, waited, or could not be read."""
        self._inflight.give_back(self._held)
        self._held = 0


def _as_serving_error(error: Exception) -> ServingError:
    if isinstance(error, ServingError):
        return error
    logger.exception("%s failed", METHOD, exc_info=error)
    return Internal(UNEXPECTED)
