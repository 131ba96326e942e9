"""Where traces are filled in: around the application, around gRPC's calls, around the engine.

Whatever carries a request puts a record beside it, which the engine's wrapper makes a trace if
the settings pick it out. While no setting asks for traces, nothing of this is done.
"""

import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterator, Mapping
from contextlib import aclosing, contextmanager
from contextvars import ContextVar
from typing import Any, Final, TypeAlias

import grpc
from google.protobuf.message import Message
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.types import Message as Event

from serving.engine.base import Around, Engine
from serving.errors import ServingError
from serving.tracing.trace import Trace
from serving.tracing.tracer import Tracer
from serving.types import InferenceRequest, InferenceResponse


class Call:
    """What a request came with, and what has happened to it; `trace` once it is picked out."""

    def __init__(self, context: Mapping[str, str]) -> None:
        self.context = context
        self.trace: Trace | None = None
        self._events: list[tuple[str, int]] = []
        self._is_sent = False

    def mark(self, event: str) -> None:
        """Something happens now."""
        events = self.trace.events if self.trace else self._events
        events.append((event, time.monotonic_ns()))

    def begin(self, tracer: Tracer, model: str) -> Trace | None:
        """The trace of a request to `model`, if it is to have one."""
        self.trace = tracer.begin(model, self.context)
        if self.trace:
            self.trace.events += self._events
        return self.trace

    def send(self, event: str) -> None:
        """The answer, or its last part, is sent from now on."""
        self._is_sent = True
        self.mark(event)

    def finish(self, event: str) -> None:
        """Nothing more will happen; what was being sent, if anything was, has been."""
        if self._is_sent:
            self.mark(event)
        if self.trace:
            self.trace.finish()


_Method: TypeAlias = Callable[[Any, grpc.aio.ServicerContext], Awaitable[Message | bytes]]

_CALL: Final[ContextVar[Call]] = ContextVar("call")


def http(app: ASGIApp, tracer: Tracer) -> ASGIApp:
    """`app`, whose requests may be traced."""

    async def call(scope: Scope, receive: Receive, send: Send) -> None:
        if tracer.is_idle:
            await app(scope, receive, send)
            return
        record = Call(Headers(scope=scope))
        record.mark("HTTP_RECV_START")

        async def received() -> Event:
            message = await receive()
            if message["type"] == "http.request" and not message.get("more_body"):
                record.mark("HTTP_RECV_END")
            return message

        async def sent(message: Event) -> None:
            if message["type"] == "http.response.start":
                record.send("HTTP_SEND_START")
            await send(message)

        token = _CALL.set(record)
        try:
            await app(scope, received, sent)
        finally:
            _CALL.reset(token)
            record.finish("HTTP_SEND_END")

    return call


def unary(method: _Method, tracer: Tracer) -> _Method:
    """`method` of the gRPC service, whose requests may be traced."""

    # Not a coroutine around another one, while nothing is traced.
    def call(message: Any, context: grpc.aio.ServicerContext) -> Awaitable[Message | bytes]:
        return method(message, context) if tracer.is_idle else traced(message, context)

    async def traced(message: Any, context: grpc.aio.ServicerContext) -> Message | bytes:
        with _grpc_request(context) as record:
            context.add_done_callback(lambda _: record.finish("GRPC_SEND_END"))
            try:
                return await method(message, context)
            finally:  # what went wrong is sent as well
                record.send("GRPC_SEND_START")

    return call


@contextmanager
def streamed(tracer: Tracer, context: grpc.aio.ServicerContext) -> Iterator[None]:
    """A request on a gRPC stream, from its reading to its last response, may be traced."""
    if tracer.is_idle:
        yield
        return
    with _grpc_request(context) as record:
        try:
            yield
        finally:
            # By whoever writes to the stream, which is not told of.
            record.send("GRPC_SEND_START")
            record.finish("GRPC_SEND_END")


@contextmanager
def _grpc_request(context: grpc.aio.ServicerContext) -> Iterator[Call]:
    metadata = context.invocation_metadata() or ()
    record = Call({name: value for name, value in metadata if isinstance(value, str)})
    # Nobody tells how long it was waited for; Triton's own reader of traces wants both.
    record.mark("GRPC_WAITREAD_START")
    record.mark("GRPC_WAITREAD_END")
    token = _CALL.set(record)
    try:
        yield record
    finally:
        _CALL.reset(token)


def engine(inner: Engine, tracer: Tracer) -> Engine:
    """`inner`, whose answers become part of traces."""
    return _TracedEngine(inner, tracer).engine


class _TracedEngine(Around):
    """Every verb is the inner engine's; those that answer requests are watched."""

    def __init__(self, inner: Engine, tracer: Tracer) -> None:
        super().__init__(inner)
        self._tracer = tracer

    def infer(self, request: InferenceRequest) -> Coroutine[Any, Any, InferenceResponse]:
        """As the inner engine."""
        trace = self._begin(request)
        return self._inner.infer(request) if trace is None else self._infer(request, trace)

    async def _infer(self, request: InferenceRequest, trace: Trace) -> InferenceResponse:
        with _asking(trace, request):
            response = await self._inner.infer(request)
            trace.answered(response)
            return response

    async def stream(self, request: InferenceRequest) -> AsyncGenerator[InferenceResponse, None]:
        """As the inner engine."""
        trace = self._begin(request)
        async with aclosing(self._inner.stream(request)) as responses:
            if trace is None:
                async for response in responses:
                    yield response
                return
            with _asking(trace, request):
                async for response in responses:
                    trace.answered(response)
                    yield response

    def _begin(self, request: InferenceRequest) -> Trace | None:
        record = None if self._tracer.is_idle else _CALL.get(None)
        return record.begin(self._tracer, request.model) if record else None


@contextmanager
def _asking(trace: Trace, request: InferenceRequest) -> Iterator[None]:
    trace.asked(request)
    error = ""
    try:
        yield
    except ServingError as failure:
        error = failure.message
        raise
    finally:
        trace.ended(error)
