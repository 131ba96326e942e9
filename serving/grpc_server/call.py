"""One call under way: runs the handler, and is the context that the handler speaks with.

It offers what handlers of ours use of `grpc.aio.ServicerContext`, with the same meaning.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Final, NoReturn

import grpc
from grpc import StatusCode

from serving.errors import UNEXPECTED
from serving.grpc_server import statuses
from serving.grpc_server.heads import Head, Metadata
from serving.grpc_server.link import Link
from serving.grpc_server.messages import IDENTITY, PREFIX, Inbox, Unreadable, frame, unpack
from serving.http2.stream import Stream
from serving.inflight import LARGE, unpacked

logger: Final = logging.getLogger("penstock.grpc")

# In a second, some of the other messages are answered.
_LATER: Final = (("grpc-retry-pushback-ms", "1000"),)
_TOO_SHORT: Final = "the request ends before its message does"


class Call:
    """A request on `stream`, its handler and its response; `link` is the connection it came by."""

    # What most calls never change costs them nothing here.
    _inbox: Inbox | None = None
    _task: asyncio.Task[None] | None = None
    _begun = False
    _is_over = False
    _held = 0
    _status: tuple[StatusCode, str, Sequence[tuple[str, str]]] = (StatusCode.OK, "", ())
    _trailing: Sequence[tuple[str, str]] = ()
    _reader: asyncio.Future[None] | None = None
    _drained: asyncio.Future[None] | None = None
    _callbacks: list[Callable[[Any], object]] | None = None
    _deadline: float | None = None
    _timer: asyncio.TimerHandle | None = None

    def __init__(self, link: Link, stream: Stream, head: Head) -> None:
        self._link = link
        self._stream = stream
        self._head = head
        self._handler = head.handler
        if head.timeout is not None:
            self._deadline = link.loop.time() + head.timeout
            self._timer = link.loop.call_at(self._deadline, self._expire)
        if link.intercept or head.handler.request_streaming:
            self._task = link.run(self._answer_as_it_comes())

    # What the connection tells

    def receive(self, data: bytes | memoryview) -> None:
        """Data has come, the last of it if the stream has ended."""
        # All of a request of one plain message, as nearly every one is.
        if self._stream.ended and self._inbox is None and self._task is None:
            size = len(data) - PREFIX.size
            if 0 <= size <= self._link.limit and PREFIX.unpack_from(data) == (0, size):
                self._start(bytes(data[PREFIX.size :]))
                return
        self._receive_part(data)

    def _receive_part(self, data: bytes | memoryview) -> None:
        if self._is_over:  # though its last answers wait to be read
            return
        inbox = self._inbox
        if inbox is None:
            inbox = self._inbox = Inbox(self._head.encoding, self._link.limit)
        try:
            inbox.feed(memoryview(data))
        except Unreadable as fault:
            self._fail(fault.code, fault.message)
            return
        if inbox.missing and not self._has_room(inbox.missing):
            return
        if self._task is None:
            self._start_if_complete(inbox)
        else:
            self._wake()
        if inbox.missing and (self._task is None or self._reader):
            self._link.want(self._stream, inbox.missing)

    def cancel(self) -> None:
        """Nobody waits for the response any more."""
        if not self._is_over:
            self._is_over = True
            self._end()
        if self._task:
            self._task.cancel()

    def give_up_waiting(self) -> None:
        """End the call if the rest of a message, or of the one request, has yet to come."""
        is_between = self._head.handler.request_streaming and not (
            self._inbox is not None and self._inbox.is_broken
        )
        if not self._stream.ended and not is_between:
            self._fail(StatusCode.CANCELLED, "the client has not sent the rest of its request")

    def drained(self) -> None:
        """What was written has left."""
        if self._drained and not self._drained.done():
            self._drained.set_result(None)

    # What the handler may ask

    def invocation_metadata(self) -> Metadata:
        """What the client sent beside the message."""
        return self._head.metadata

    def time_remaining(self) -> float | None:
        """Seconds until the client stops waiting; None: it waits as long as it takes."""
        if self._deadline is None:
            return None
        return max(0.0, self._deadline - self._link.loop.time())

    def peer(self) -> str:
        """Who asks, as `ipv4:ADDRESS:PORT`."""
        return self._link.peer

    def add_done_callback(self, callback: Callable[[Any], object]) -> None:
        """Have `callback` called once the call is over, however it ends."""
        if self._callbacks is None:
            self._callbacks = []
        self._callbacks.append(callback)

    def set_trailing_metadata(self, metadata: Sequence[tuple[str, str]]) -> None:
        """What a call that ends well tells behind its last message."""
        self._trailing = metadata

    async def abort(
        self,
        code: StatusCode,
        details: str = "",
        trailing_metadata: Sequence[tuple[str, str]] = (),
    ) -> NoReturn:
        """End the call with a status other than OK."""
        self._status = code, details, trailing_metadata
        raise grpc.aio.AbortError("the handler ends the call")

    async def read(self) -> Any:
        """The next request of a stream; `grpc.aio.EOF` after the last one.

        What the handler has read, it holds room for itself.
        """
        while not self._inbox and not self._is_over:
            if self._stream.ended:
                if self._inbox is not None and self._inbox.is_broken:
                    await self.abort(StatusCode.INTERNAL, _TOO_SHORT)
                return grpc.aio.EOF
            await self._more()
        if self._is_over or self._inbox is None:
            # A task of the handler's reads, and is woken before the cancelling comes to it.
            raise asyncio.CancelledError
        content = await self._unpacked(*self._taken(self._inbox))
        self._give_room_back()
        return self._deserialized(content)

    async def write(self, message: Any) -> None:
        """Send a response of a stream; returns once the client has made room for it."""
        is_plain = self._head.packing == IDENTITY
        data = self._framed(message) if is_plain else await self._packed(message)
        if self._is_over:
            raise grpc.aio.InternalError("the call is over")
        self._link.send(self._stream, self._opening(), data, None)
        if self._stream.pending:
            self._drained = self._link.loop.create_future()
            await self._drained

    # The way of a call

    def _has_room(self, missing: int) -> bool:
        """Hold room for a message of which so much is still to come; the call has failed if not."""
        inflight = self._link.inflight
        if self._held:
            return True
        if not inflight.admits(missing):
            message = inflight.refusal(missing)
            self._finish(StatusCode.RESOURCE_EXHAUSTED, message, _LATER)
            if self._task:
                self._task.cancel()
            return False
        self._held = inflight.take(missing)
        return True

    def _give_room_back(self) -> None:
        held, self._held = self._held, 0
        self._link.inflight.give_back(held)

    def _start_if_complete(self, inbox: Inbox) -> None:
        """Begin once the one message is there and no other follows."""
        if self._stream.ended:
            found = self._only(inbox)
            if found is None:
                return
            content, is_packed = found
            if is_packed:
                self._task = self._link.run(self._answer_packed(content))
            else:
                self._start(content)

    def _only(self, inbox: Inbox | None) -> tuple[bytearray, bool] | None:
        """The one message of a request that has ended; None where the call has failed for it."""
        if not inbox or inbox.is_broken:
            self._fail(StatusCode.INTERNAL, _TOO_SHORT)
            return None
        found = self._taken(inbox)
        if inbox:
            self._fail(StatusCode.INTERNAL, "more than one message for a method that takes one")
            return None
        return found

    def _taken(self, inbox: Inbox) -> tuple[bytearray, bool]:
        """The next message, and whether it is packed."""
        content, is_packed = inbox.take()
        self._link.give_back(self._stream, PREFIX.size + len(content))
        return content, is_packed

    async def _unpacked(self, content: bytearray, is_packed: bool) -> bytes | bytearray:
        """The message, for which there is room; CancelledError where the call has failed for it."""
        if not is_packed:
            return content
        limit = self._link.limit
        self._give_room_back()
        if not self._has_room(unpacked(len(content), limit)):
            raise asyncio.CancelledError
        try:
            # However short it is, it may take as long as the limit lets it: others go on meanwhile.
            message = await asyncio.to_thread(unpack, content, self._head.encoding, limit)
        except Unreadable as fault:
            self._fail(fault.code, fault.message)
            raise asyncio.CancelledError from None
        if self._is_over:
            raise asyncio.CancelledError
        self._give_room_back()
        self._held = self._link.inflight.take(len(message))
        return message

    def _start(self, content: bytes | bytearray) -> None:
        streams = self._handler.response_streaming
        self._task = self._link.run(self._answer_all(content) if streams else self._answer(content))

    async def _answer(self, content: bytes | bytearray) -> None:
        """One request, one response: the way of nearly all calls."""
        handler = self._handler
        try:
            read = handler.request_deserializer
            request = content if read is None else read(content)
            message = await handler.unary_unary(request, self)
            is_plain = self._head.packing == IDENTITY
            data = self._framed(message) if is_plain else await self._packed(message)
        except BaseException as error:
            self._failed(error)
            return
        if not self._is_over:
            self._is_over = True
            ending = statuses.good_end(self._trailing)
            self._link.send(self._stream, self._opening(), data, ending)
            self._end()

    async def _answer_packed(self, content: bytearray) -> None:
        try:
            message = await self._unpacked(content, is_packed=True)
        except BaseException as error:
            self._failed(error)
            return
        streams = self._handler.response_streaming
        await (self._answer_all(message) if streams else self._answer(message))

    async def _answer_all(self, content: bytes | bytearray) -> None:
        try:
            await self._respond(self._deserialized(content))
        except BaseException as error:
            self._failed(error)
            return
        self._finish(StatusCode.OK, "", self._trailing)

    async def _answer_as_it_comes(self) -> None:
        """Begin before any message is there."""
        try:
            if self._link.intercept:
                self._handler = await self._link.intercept(self._head)
            if self._handler.request_streaming:
                await self._respond(self._requests())
            else:
                await self._until_ended()
                found = self._only(self._inbox)
                if found is None:
                    return
                await self._respond(self._deserialized(await self._unpacked(*found)))
        except BaseException as error:
            self._failed(error)
            return
        self._finish(StatusCode.OK, "", self._trailing)

    async def _respond(self, request: Any) -> None:
        """Have the handler answer, in whichever of the ways it has."""
        handler = self._handler
        behaviour = (
            handler.unary_unary
            or handler.unary_stream
            or handler.stream_unary
            or handler.stream_stream
        )
        answer = behaviour(request, self)
        if hasattr(answer, "__aiter__"):
            async for message in answer:
                await self.write(message)
            return
        message = await answer
        if not handler.response_streaming:
            await self.write(message)

    async def _requests(self) -> AsyncIterator[Any]:
        while (request := await self.read()) is not grpc.aio.EOF:
            yield request

    async def _until_ended(self) -> None:
        while not self._stream.ended:
            await self._more()

    async def _more(self) -> None:
        """Wait until anything has come of the request."""
        self._reader = self._link.loop.create_future()
        if self._inbox is not None and self._inbox.missing:
            self._link.want(self._stream, self._inbox.missing)
        try:
            await self._reader
        finally:
            self._reader = None

    def _wake(self) -> None:
        if self._reader and not self._reader.done():
            self._reader.set_result(None)

    def _expire(self) -> None:
        self._fail(StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")

    def _fail(self, code: StatusCode, message: str) -> None:
        """End the call from outside of its handler."""
        self._finish(code, message)
        if self._task:
            self._task.cancel()

    def _failed(self, error: BaseException) -> None:
        """The handler has raised."""
        if _is_abort(error):
            self._finish(*self._status)
        elif isinstance(error, asyncio.CancelledError):
            self._finish(StatusCode.CANCELLED, "the call was cancelled")
        elif isinstance(error, Exception):
            logger.exception("a gRPC call failed", exc_info=error)
            self._finish(StatusCode.UNKNOWN, UNEXPECTED)
        else:
            raise error

    def _finish(
        self, code: StatusCode, message: str, metadata: Sequence[tuple[str, str]] = ()
    ) -> None:
        if self._is_over:
            return
        self._is_over = True
        block = statuses.trailers(code, message, metadata, is_all=not self._begun)
        self._link.send(self._stream, b"", b"", block)
        self._end()

    def _end(self) -> None:
        if self._held:
            self._give_room_back()
        if self._timer:
            self._timer.cancel()
        for callback in self._callbacks or ():
            callback(self)

    def _opening(self) -> bytes:
        """The block before the first message; none before a later one."""
        if self._begun:
            return b""
        self._begun = True
        return statuses.HEAD[self._head.packing]

    def _framed(self, message: Any) -> bytes:
        serialize = self._handler.response_serializer
        content: bytes = message if serialize is None else serialize(message)
        return PREFIX.pack(0, len(content)) + content

    async def _packed(self, message: Any) -> bytes:
        content = self._framed(message)[PREFIX.size :]
        if len(content) < LARGE:
            return frame(content, self._head.packing)
        # Which takes longer than going to another thread and back: others go on meanwhile.
        return await asyncio.to_thread(frame, content, self._head.packing)

    def _deserialized(self, content: Any) -> Any:
        deserialize = self._handler.request_deserializer
        return content if deserialize is None else deserialize(content)


def _is_abort(error: BaseException) -> bool:
    """Whether the handler ended the call itself, in a group of tasks or without."""
    if isinstance(error, BaseExceptionGroup):
        return error.split(grpc.aio.AbortError)[1] is None
    return isinstance(error, grpc.aio.AbortError)
