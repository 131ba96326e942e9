"""One Triton server: the connection to it, whether it is ready, and what it has in hand."""

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from enum import Enum
from typing import Any, Final

import grpc
from google.protobuf.message import Message
from tritonclient.grpc import service_pb2, service_pb2_grpc

from serving.errors import DeadlineExceeded, ServingError
from serving.faults import Faults
from serving.statistics import ServerFailure, ServerStatistics
from serving.triton import failures
from serving.triton.dialling import Dialling
from serving.triton.failures import Untouched
from serving.triton.strikes import Strikes

logger = logging.getLogger("penstock.triton")

# In seconds: how often a server is asked whether it is ready, and how long it has to answer.
CHECK_INTERVAL: Final = 1.0
CHECK_PATIENCE: Final = 2.0
# And how long for a question that costs it nothing, when a client waits for the answer.
_PATIENCE: Final = 10.0
_ERRORS_AS_STATUS: Final = (("triton_grpc_error", "true"),)


class State(Enum):
    """What a server said when it was last asked."""

    READY = "ready"
    NOT_READY = "not ready"
    UNREACHABLE = "unreachable"


class Link:
    """The connection to the server of `record`, where its calls are counted; for one event loop.

    Its address is ADDRESS:PORT, and `name` the host that it was looked up for. `changed` is called
    whenever `state` is another, and `why` says why it is unreachable. `outstanding` counts the
    calls that the server has not answered yet, `turn` tells when it was last chosen, `strikes`
    which models it fails, `began` is when the connection was opened, in seconds of the monotonic
    clock, and `identity` what with.
    """

    def __init__(
        self,
        record: ServerStatistics,
        name: str,
        dialling: Dialling,
        changed: Callable[[], None],
    ) -> None:
        self.record = record
        self.address = record.address
        self._name = name
        self._dialling = dialling
        self._changed = changed
        self._faults = Faults(record.address)
        self.state = State.UNREACHABLE
        self.why = ""
        self.outstanding = 0
        self.turn = 0
        self.strikes = Strikes(record.address)
        self.began = time.monotonic()
        self.identity = dialling.identity
        self._channel = dialling.open(self.address, name)
        self._stub = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)

    async def call(self, method: str, message: Message, deadline: int | None = None) -> Any:
        """The reply to `message`; nobody waits for it after `deadline` (monotonic nanoseconds).

        Raises ServingError, or Untouched where the server cannot have done anything.
        """
        remaining = _remaining(deadline)
        with self._in_hand():
            try:
                reply = await getattr(self._stub, method)(message, timeout=remaining)
            except grpc.aio.AioRpcError as failure:
                raise self._failed(failures.of_call(failure), message) from None
            self.strikes.answered(executed(message))
            return reply

    async def stream(self, message: Any, deadline: int | None) -> AsyncGenerator[Any, None]:
        """The `ModelInferResponse` messages to one request; raises as `call` does."""
        remaining = _remaining(deadline)
        with self._in_hand():
            call = self._stub.ModelStreamInfer(
                iter((message,)), metadata=_ERRORS_AS_STATUS, timeout=remaining
            )
            try:
                async for reply in call:
                    if reply.error_message:
                        raise self._failed(failures.of_stream(reply.error_message), message)
                    self.strikes.answered(message.model_name)
                    yield reply.infer_response
            except grpc.aio.AioRpcError as failure:
                raise self._failed(failures.of_call(failure), message) from None
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
        except grpc.aio.AioRpcError as failure:
            self._lose(failure.details() or failure.code().name)
        else:
            self._become(State.READY if reply.ready else State.NOT_READY)

    def statistics(self) -> ServerStatistics:
        """The record as it stands, and how the server does."""
        return replace(
            self.record,
            is_reachable=self.state is not State.UNREACHABLE,
            is_ready=self.state is State.READY,
            outstanding=self.outstanding,
            failures=dict(self.record.failures),
        )

    async def close(self, grace: float) -> None:
        """End the connection, after its calls or `grace` seconds."""
        await self._channel.close(grace)

    @contextmanager
    def _in_hand(self) -> Iterator[None]:
        self.outstanding += 1
        self.record.calls += 1
        try:
            yield
        finally:
            self.outstanding -= 1

    def _become(self, state: State, why: str = "") -> None:
        if (state, why) == (self.state, self.why):
            return
        level = logging.WARNING if why else logging.INFO
        logger.log(level, "%s is %s%s", self.address, state.value, why and f": {why}")
        is_another = state is not self.state
        self.state, self.why = state, why
        if is_another:
            self._changed()

    def _lose(self, details: str) -> None:
        self._become(State.UNREACHABLE, self._dialling.why(details, self._name))

    def _failed(
        self, failure: ServingError | Untouched, message: Message
    ) -> ServingError | Untouched:
        """What has become of `message`, once it is counted; raised here, it would keep itself."""
        if (reason := failures.reason(failure)) is not None:
            self.record.failures[reason] += 1
        if isinstance(failure, ServingError) and reason is ServerFailure.FAILED:
            self._faults.tell(failure)
            if model := executed(message):
                self.strikes.failed(model)
        if isinstance(failure, Untouched) and failure.unconnected:
            self._lose(failure.unconnected)
        return failure


def executed(message: Message) -> str:
    """The model that the server is to execute for `message`; "" where it is to execute none."""
    return message.model_name if isinstance(message, service_pb2.ModelInferRequest) else ""


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
