"""What a call needs of the connection that it came by."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

from serving.grpc_server.heads import Head
from serving.http2.stream import Stream
from serving.inflight import Inflight


class Link(Protocol):
    """The connection that a call came by; `limit` is the largest message in bytes.

    `inflight` is the room for large messages.
    """

    loop: asyncio.AbstractEventLoop
    limit: int
    inflight: Inflight
    peer: str
    intercept: Callable[[Head], Coroutine[Any, Any, Any]] | None

    def run(self, work: Coroutine[Any, Any, None]) -> "asyncio.Task[None]":
        """A task of the server, which waits for it when it stops."""

    def send(self, stream: Stream, block: bytes, data: bytes, trailers: bytes | None) -> None:
        """As `Sender.send`."""

    def want(self, stream: Stream, size: int) -> None:
        """As `Credit.want`."""

    def give_back(self, stream: Stream, size: int) -> None:
        """As `Credit.give_back`."""
