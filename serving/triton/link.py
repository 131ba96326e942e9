"""One Triton server: the connection to it, whether it is ready, and what it has in hand."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from typing import Any, Final, NoReturn

import grpc
from google.protobuf.message import Message
from tritonclient.grpc import service_pb2, service_pb2_grpc

from serving.errors import DeadlineExceeded
from serving.triton import failures
from serving.triton.failures import Untouched

logger = logging.getLogger("penstock.triton")

# In seconds: how often a server is asked whether it is ready, and how long it has to answer.
CHECK_INTERVAL: Final = 1.0
CHECK_PATIENCE: Final = 2.0
# And how long for a question that costs it nothing, when a client waits for the answer.
_PATIENCE: Final = 10.0
_ERRORS_AS_STATUS: Final = (("triton_grpc_error", "true"),)

_OPTIONS: Final = (
    # The gateway has limited what came in; what a model answers is never too large.
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # A peer that is gone without a word is missed while calls wait for it. The checks keep data
    # flowing, without which a server would take so many pings for an attack.
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 1_000),
    # Else a new connection to an address would be the old one.
    ("grpc.use_local_subchannel_pool", 1),
)


class State(Enum):
    """What a server said when it was last asked."""

    READY = "ready"
    NOT_READY = "not ready"
    UNREACHABLE = "unreachable"


class Link:
    """The connection to the server at `address`, HOST:PORT; to be used on one event loop.

    `changed` is called whenever `state` is another. `outstanding` counts the calls that the server
    has not answered yet, `turn` tells when it was last chosen, and `began` is when the connection
    was opened, in seconds of the monotonic clock.
    """

    def __init__(self, address: str, changed: Callable[[], None]) -> None:
        self.address = address
        self._changed = changed
        self.state = State.UNREACHABLE
        self.outstanding = 0
        self.turn = 0
        self.began = time.monotonic()
        self._channel = grpc.aio.insecure_channel(address, options=_OPTIONS)
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)

    async def call(self, method: str, message: Message, deadline: int | None = None) -> Any:
        """The reply to `message`; nobody waits for it after `deadline` (monotonic nanoseconds).

        Raises ServingError, or Untouched where the server cannot have done anything.
        """
        remaining = _remaining(deadline)
        with self._in_hand():
            try:
                return await getattr(self._stub, method)(message, timeout=remaining)
            except grpc.aio.AioRpcError as failure:
                self._fail(failures.of_call(failure))

    async def stream(self, message: Message, deadline: int | None) -> AsyncGenerator[Any, None]:
        """The `ModelInferResponse` messages to one request; raises as `call` does."""
        remaining = _remaining(deadline)
        with self._in_hand():
            call = self._stub.ModelStreamInfer(
                iter((message,)), metadata=_ERRORS_AS_STATUS, timeout=remaining
            )
            try:
                async for reply in call:
                    if reply.error_message:
                        self._fail(failures.of_stream(reply.error_message))
                    yield reply.infer_response
            except grpc.aio.AioRpcError as failure:
                self._fail(failures.of_call(failure))
            finally:
                call.cancel()

    async def watch(self) -> None:
        """Ask the server again and again whether it is ready."""
        while True:
            await self.check()
            await asyncio.sleep(CHECK_INTERVAL)

    async def check(self) -> None:
        """Ask the server once whether it is ready."""
        try:
            reply = await self._stub.ServerReady(
                service_pb2.ServerReadyRequest(), timeout=CHECK_PATIENCE
            )
        except grpc.aio.AioRpcError:
            self._become(State.UNREACHABLE)
        else:
            self._become(State.READY if reply.ready else State.NOT_READY)

    async def close(self, grace: float) -> None:
        """End the connection, after its calls or `grace` seconds."""
        await self._channel.close(grace)

    @contextmanager
    def _in_hand(self) -> Iterator[None]:
        self.outstanding += 1
        try:
            yield
        finally:
            self.outstanding -= 1

    def _become(self, state: State) -> None:
        if state is not self.state:
            logger.info("%s is %s", self.address, state.value)
            self.state = state
            self._changed()

    def _fail(self, failure: Exception) -> NoReturn:
        if isinstance(failure, Untouched) and failure.is_unreachable:
            self._become(State.UNREACHABLE)
        raise failure from None


def soon() -> int:
    """The deadline of a question that costs a server nothing, in monotonic nanoseconds."""
    return time.monotonic_ns() + int(_PATIENCE * 1e9)


def _remaining(deadline: int | None) -> float | None:
    """The seconds until `deadline`; DeadlineExceeded where there are none."""
    if deadline is None:
        return None
    remaining = (deadline - time.monotonic_ns()) / 1e9
    if remaining <= 0:
        raise DeadlineExceeded("the deadline passed before the request was sent to a server")
    return remaining
