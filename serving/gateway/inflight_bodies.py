"""Refuses requests whose bodies have no room, around the application: before a body is read."""

from collections.abc import Mapping
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.errors import Code, Overloaded
from serving.gateway import answers
from serving.gateway.routing import response
from serving.inflight import LARGE, Inflight, unpacked

RETRY_AFTER: Final = 1.0  # seconds, in which some of the others are answered


def http(app: ASGIApp, inflight: Inflight, limit: int, status: Mapping[Code, int]) -> ASGIApp:
    """`app`, for requests that have room; `limit` is the largest body in bytes."""

    async def call(scope: Scope, receive: Receive, send: Send) -> None:
        headers = dict(reversed(scope["headers"]))  # the first of a name counts
        announced = _announced(headers, limit)
        if not inflight.admits(announced):
            error = Overloaded(inflight.refusal(announced), RETRY_AFTER)
            await response(answers.of_error(error, status))(scope, receive, send)
            return
        body = _Body(inflight, receive, announced)
        try:
            await app(scope, body.receive, send)
        finally:
            inflight.give_back(body.held)

    return call


def _announced(headers: Mapping[bytes, bytes], limit: int) -> int:
    """The most that the body will take, as far as its head tells."""
    length = headers.get(b"content-length", b"")
    size = int(length) if length.isdigit() else 0
    if size and headers.get(b"content-encoding", b"identity").strip().lower() != b"identity":
        return unpacked(size, limit)
    return min(size, limit)  # What is larger is refused for that.


class _Body:
    """What comes of one body; `held` bytes are counted for it."""

    def __init__(self, inflight: Inflight, receive: Receive, announced: int) -> None:
        self.held = inflight.take(announced)
        self._inflight = inflight
        self._receive = receive
        self._size = 0

    async def receive(self) -> Message:
        """The next piece; Overloaded where one without a length gets too large for the others."""
        message = await self._receive()
        self._size += len(message.get("body", b""))
        grown = self._size - self.held
        if grown >= LARGE:
            if not self._inflight.admits(grown):
                raise Overloaded(self._inflight.refusal(self._size), RETRY_AFTER)
            self.held += self._inflight.take(grown)
        return message
