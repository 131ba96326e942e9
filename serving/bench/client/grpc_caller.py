"""Calls over gRPC: prepared messages on channels that many calls share."""

import asyncio
import time
from itertools import cycle
from typing import Any, Final

import grpc

from serving.bench.client.caller import Call, Check, Ended, Ending
from serving.bench.client.http_caller import TIMED_OUT
from serving.bench.client.tally import Failure
from serving.bench.plan import Target

METHOD: Final = "/inference.GRPCInferenceService/ModelInfer"
TIMING: Final = "server-timing"

_MESSAGE: Final = 300
_PATIENCE: Final = 5.0  # seconds for a channel to connect before a step begins


class GrpcCaller:
    """Sends serialised ModelInferRequests over `channels` connections in turn."""

    def __init__(self, target: Target, check: Check, channels: int) -> None:
        self.ended: Ended = lambda *_: None
        self._check = check
        self._metadata = tuple((name.lower(), value) for name, value in target.headers.items())
        self._loop = asyncio.get_running_loop()
        self._channels = [open_channel(target) for _ in range(channels)]
        # Neither serialised nor parsed by grpc: bytes go out as prepared and come as they are.
        self._stubs = cycle([(each, each.unary_unary(METHOD)) for each in self._channels])
        self._under_way: set[asyncio.Task[None]] = set()
        # Metadata take time to look at: only of a server whose first answer has some.
        self._is_timed = True

    async def open(self, connections: int) -> None:
        """Connect every channel, whatever `connections` says: calls share them."""
        waits = (asyncio.wait_for(each.channel_ready(), _PATIENCE) for each in self._channels)
        await asyncio.gather(*waits, return_exceptions=True)

    def call(self, call: Call) -> None:
        """Send it, with what is left of its timeout as the deadline."""
        task = self._loop.create_task(self._call(call))
        self._under_way.add(task)
        task.add_done_callback(self._under_way.discard)

    async def close(self) -> None:
        """Cancel what is under way and close the channels."""
        tasks = tuple(self._under_way)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for channel in self._channels:
            await channel.close()

    async def _call(self, call: Call) -> None:
        channel, stub = next(self._stubs)
        left = (call.deadline - time.monotonic_ns()) / 1e9
        pending = stub(call.content, timeout=left, metadata=self._metadata)
        try:
            answer = await pending
        except grpc.aio.AioRpcError as error:
            now = time.monotonic_ns()
            self.ended(call, now, _failed(error, channel))
            return
        now = time.monotonic_ns()
        wrong = self._check(call.body, answer, None)
        failure = Failure("wrong answer", wrong) if wrong else None
        timing = await _timing(pending) if self._is_timed else None
        self._is_timed = timing is not None
        self.ended(call, now, Ending(failure, timing=timing))


def open_channel(target: Target) -> Any:
    """A channel of its own connection, of messages of any size."""
    options = [
        ("grpc.max_receive_message_length", -1),
        ("grpc.max_send_message_length", -1),
        ("grpc.use_local_subchannel_pool", 1),
        # A server that comes back is found within a second, not after minutes.
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 1000),
    ]
    if target.tls:
        credentials = grpc.ssl_channel_credentials()
        return grpc.aio.secure_channel(target.address, credentials, options=options)
    return grpc.aio.insecure_channel(target.address, options=options)


def _failed(error: Any, channel: Any) -> Ending:
    code = error.code()
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return Ending(TIMED_OUT)
    # The status alone does not say whether a server refused or there was none.
    is_lost = (
        code is grpc.StatusCode.UNAVAILABLE
        and channel.get_state() is not grpc.ChannelConnectivity.READY
    )
    message = (error.details() or "no message")[:_MESSAGE]
    return Ending(Failure(f"gRPC {code.name}", message), is_lost=is_lost)


async def _timing(call: Any) -> str | None:
    for metadata in (await call.initial_metadata(), await call.trailing_metadata()):
        for name, value in metadata or ():
            if name == TIMING:
                return str(value)
    return None
