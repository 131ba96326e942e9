"""A server with a few methods, on a free port, and ways to talk to it."""

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import grpc
import hpack

from serving.grpc_server.policy import Policy
from serving.grpc_server.server import Server
from serving.http2 import frames
from serving.http2.frames import Kind
from tests.serving.http2.peer import Frame, parsed

LIMIT = 16 * 1024 * 1024
SERVICE = "test.Service"


@dataclass
class Methods:
    """The methods; `begun` and `ended` list the calls of `Hold`, which wait for `go`."""

    begun: list[bytes] = field(default_factory=list)
    ended: list[bytes] = field(default_factory=list)
    go: asyncio.Event = field(default_factory=asyncio.Event)
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    def handlers(self) -> Any:
        """As a server of `grpc` takes them."""
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                "Echo": grpc.unary_unary_rpc_method_handler(self._echo),
                "Hold": grpc.unary_unary_rpc_method_handler(self._hold),
                "Fail": grpc.unary_unary_rpc_method_handler(self._fail),
                "Raise": grpc.unary_unary_rpc_method_handler(self._raise),
                "Trail": grpc.unary_unary_rpc_method_handler(self._trail),
                "TrailEach": grpc.stream_stream_rpc_method_handler(self._trail_each),
                "Metadata": grpc.unary_unary_rpc_method_handler(self._metadata),
                "Count": grpc.unary_stream_rpc_method_handler(self._count),
                "Join": grpc.stream_unary_rpc_method_handler(self._join),
                "Each": grpc.stream_stream_rpc_method_handler(self._each),
                "Converse": grpc.stream_stream_rpc_method_handler(self._converse),
                "Group": grpc.stream_stream_rpc_method_handler(self._group),
            },
        )

    async def until(self, predicate: Callable[[], bool]) -> None:
        async with self.changed:
            await self.changed.wait_for(predicate)

    async def _note(self, where: list[bytes], request: bytes) -> None:
        where.append(request)
        async with self.changed:
            self.changed.notify_all()

    async def _echo(self, request: bytes, _: Any) -> bytes:
        return bytes(request)

    async def _hold(self, request: bytes, _: Any) -> bytes:
        await self._note(self.begun, request)
        try:
            await self.go.wait()
        finally:
            await asyncio.shield(self._note(self.ended, request))
        return request

    async def _fail(self, request: bytes, context: Any) -> bytes:
        trailer = (("grpc-retry-pushback-ms", "5"),)
        await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, request.decode(), trailer)
        return b""

    async def _raise(self, request: bytes, _: Any) -> bytes:
        raise ValueError(request)

    async def _trail(self, request: bytes, context: Any) -> bytes:
        context.set_trailing_metadata((("took", request.decode()), ("by", "hand")))
        return request

    async def _trail_each(self, requests: AsyncIterator[bytes], context: Any) -> None:
        async for request in requests:
            await context.write(await self._trail(request, context))

    async def _metadata(self, _: bytes, context: Any) -> bytes:
        return repr((context.invocation_metadata(), context.peer())).encode()

    async def _count(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        number, size = map(int, request.split())
        for index in range(number):
            await self._note(self.begun, b"%d" % index)
            yield b"%d" % index + bytes(size)

    async def _join(self, requests: AsyncIterator[bytes], _: Any) -> bytes:
        return b"".join([bytes(request) async for request in requests])

    async def _each(self, requests: AsyncIterator[bytes], _: Any) -> AsyncIterator[bytes]:
        async for request in requests:
            yield request

    async def _converse(self, _: Any, context: Any) -> None:
        while (request := await context.read()) is not grpc.aio.EOF:
            await context.write(request)

    async def _group(self, requests: Any, context: Any) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._converse(requests, context))


@asynccontextmanager
async def running(
    policy: Policy | None = None, interceptors: tuple[Any, ...] = ()
) -> AsyncIterator[tuple[Server, Methods, str]]:
    """A server for the block, its methods, and where it listens."""
    server = Server(policy or Policy(limit=LIMIT), interceptors)
    methods = Methods()
    server.add_generic_rpc_handlers((methods.handlers(),))
    listener = socket.create_server(("127.0.0.1", 0))
    server.start(listener)
    try:
        yield server, methods, f"127.0.0.1:{listener.getsockname()[1]}"
    finally:
        methods.go.set()
        await server.stop(grace=30)


def method(channel: Any, name: str, kind: str = "unary_unary") -> Any:
    """A method of the server, as a client of `grpc` calls it."""
    return getattr(channel, kind)(f"/{SERVICE}/{name}")


class Raw:
    """A client that writes bytes of its own, and reads frames."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self._encoder = hpack.Encoder()

    def send(self, kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> None:
        self.writer.write(frames.frame(kind, flags, stream, payload))

    def head(self, stream: int, name: str, *headers: tuple[str, str], ends: bool = False) -> None:
        """The headers of a request."""
        flags = frames.END_HEADERS | (frames.END_STREAM if ends else 0)
        block = self.encode(
            (":method", "POST"),
            (":scheme", "http"),
            (":path", f"/{SERVICE}/{name}"),
            ("content-type", "application/grpc"),
            ("te", "trailers"),
            *headers,
        )
        if len(block) <= frames.DEFAULT_FRAME_SIZE:
            self.send(Kind.HEADERS, flags, stream, block)
            return
        size = frames.DEFAULT_FRAME_SIZE
        parts = [block[start : start + size] for start in range(0, len(block), size)]
        self.send(Kind.HEADERS, flags & ~frames.END_HEADERS, stream, parts[0])
        for index, part in enumerate(parts[1:], 2):
            last = frames.END_HEADERS if index == len(parts) else 0
            self.send(Kind.CONTINUATION, last, stream, part)

    def encode(self, *headers: tuple[str, str]) -> bytes:
        """A block of headers, whatever they are."""
        return self._encoder.encode(headers)

    def data(self, stream: int, data: bytes, ends: bool = True) -> None:
        self.send(Kind.DATA, frames.END_STREAM if ends else 0, stream, data)

    async def frame(self) -> Frame | None:
        """The next frame; None where the connection has ended."""
        try:
            head = await self.reader.readexactly(frames.HEAD_SIZE)
            rest = await self.reader.readexactly(int.from_bytes(head[:3]))
        except (asyncio.IncompleteReadError, ConnectionError):
            return None
        return parsed(head + rest)[0]

    async def until(self, kind: int, stream: int | None = None) -> Frame:
        """The next frame of that kind; those before it are passed over."""
        while True:
            frame = await self.frame()
            assert frame is not None, "the connection has ended"
            if frame.kind == kind and stream in (None, frame.stream):
                return frame

    async def last(self, stream: int) -> Frame:
        """The frame that ends a stream."""
        while True:
            frame = await self.until(Kind.HEADERS, stream)
            if frame.flags & frames.END_STREAM:
                return frame

    async def ended(self) -> list[Frame]:
        """All that comes until the connection ends."""
        found = []
        while (frame := await self.frame()) is not None:
            found.append(frame)
        return found

    def trailers(self, frame: Frame) -> dict[str, str]:
        """The headers in a frame; our server keeps no table."""
        return {str(name): str(value) for name, value in hpack.Decoder().decode(frame.payload)}


@asynccontextmanager
async def raw(address: str, *settings: tuple[frames.Setting, int]) -> AsyncIterator[Raw]:
    """A client that has greeted the server."""
    host, port = address.split(":")
    client = Raw(*await asyncio.open_connection(host, int(port)))
    client.writer.write(frames.PREFACE + frames.settings(dict(settings)))
    try:
        yield client
    finally:
        client.writer.close()
        with suppress(ConnectionError):
            await client.writer.wait_closed()
