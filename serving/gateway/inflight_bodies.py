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
        body = _Body(inflight, receive, limit, _is_packed(headers))
        length = headers.get(b"content-length", b"")
        # What is larger than the limit is refused for that.
        announced = body.most(min(int(length), limit) if length.isdigit() else 0)
        if not inflight.admits(announced):
            error = Overloaded(inflight.refusal(announced), RETRY_AFTER)
            await response(answers.of_error(error, status))(scope, receive, send)
            return
        body.held = inflight.take(announced)
        try:
            await app(scope, body.receive, send)
        finally:
            inflight.give_back(body.held)

    return call


def _is_packed(headers: Mapping[bytes, bytes]) -> bool:
    return headers.get(b"content-encoding", b"identity").strip().lower() != b"identity"


class _Body:
    """What comes of one body; `held` bytes are counted for it."""

    def __init__(self, inflight: Inflight, receive: Receive, limit: int, is_packed: bool) -> None:
        self.held = 0
        self._inflight = inflight
        self._receive = receive
        self._limit = limit
        self._is_packed = is_packed
        self._size = 0

    def most(self, size: int) -> int:
        """The most that `size` bytes of it take, once they are unpacked."""
        return unpacked(size, self._limit) if self._is_packed else size

    async def receive(self) -> Message:
        """The next piece; Overloaded where one without a length gets too large for the others."""
        message = await self._receive()
        self._size += len(message.get("body", b""))
        wanted = self.most(self._size)
        grown = wanted - self.held
        if grown >= LARGE:
            if not self._inflight.admits(grown, self.held):
                raise Overloaded(self._inflight.refusal(wanted, self.held), RETRY_AFTER)
            self.held += self._inflight.take(grown)
        return message
