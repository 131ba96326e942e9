"""Bytes of whole gRPC connections, to our own HTTP/2 server over an engine that runs models."""

import asyncio
import atexit
import gzip
import random
import socket
from functools import cached_property
from struct import Struct
from typing import Any, Final

import hpack
from tritonclient.grpc import service_pb2

from serving.engine.embedded import EmbeddedEngine
from serving.errors import InvalidArgument
from serving.gateway.extensions import Extensions
from serving.gateway.lifecycle import Lifecycle
from serving.gateway.rpc import RpcServer
from serving.gateway.security import Security
from serving.grpc_server.policy import Policy
from serving.grpc_server.protocol import GrpcProtocol
from serving.grpc_server.server import Server
from serving.http2 import frames
from serving.http2.connection import Terms
from serving.http2.frames import Fault, Kind, Setting
from serving.logs import Logs
from serving.settings import Settings
from tests.fuzz.beside import Client, no_faults, repository
from tests.fuzz.fuzzer import PATIENCE, Hang, Target

_SERVICE: Final = "/inference.GRPCInferenceService/"
_MESSAGE: Final = Struct(">BL")
# What waits for the client, which sends nothing more, is not waited for any longer.
_BLOCKED_SECONDS: Final = 0.02
_LOOKS: Final = int(PATIENCE / _BLOCKED_SECONDS)
_NUMBERS: Final = (0, 1, 2, 3, 5, 7, 255, 16_384, 65_535, 2**31 - 1)


class _Server:
    """Our own server of gRPC over a real engine, which starts at the first use."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()

    @cached_property
    def _server(self) -> "_Open":
        atexit.register(self._loop.close)
        return self._loop.run_until_complete(_opened())

    def answer(self, content: bytes) -> bytes:
        """What comes back; InvalidArgument if no message does, in one place for each reason."""
        server = self._server
        with no_faults():
            answered = self._loop.run_until_complete(_exchange(server, content))
        found = _split(answered)
        kinds = {kind for kind, _, _, _ in found}
        for kind, _, _, payload in found:
            if kind == Kind.GOAWAY and payload[4:8] == bytes((0, 0, 0, Fault.INTERNAL_ERROR)):
                raise AssertionError(payload)
        if Kind.DATA in kinds:
            return answered
        if Kind.GOAWAY in kinds:
            raise InvalidArgument("the connection is ended")
        if Kind.RST_STREAM in kinds:
            raise InvalidArgument("the stream is reset")
        if Kind.HEADERS in kinds:
            raise InvalidArgument("the call is refused")
        raise InvalidArgument("no whole request")


class _Open(Server):
    """A server that shows which handlers run."""

    @property
    def running(self) -> set["asyncio.Task[None]"]:
        return self._tasks


async def _opened() -> _Open:
    settings = Settings(model_repository=(repository(),))
    engine = EmbeddedEngine(settings)
    await engine.start()
    extensions = Extensions.of(settings, Logs(settings))
    security = Security.of(settings)
    service = RpcServer(engine, Lifecycle(engine), settings, extensions, security)
    server = _Open(Policy(limit=1 << 20, encodings=("gzip", "deflate"), terms=Terms(max_streams=8)))
    service.register(server)
    server.start(socket.create_server(("127.0.0.1", 0)))
    return server


class _Shown(GrpcProtocol):
    """A connection that shows whether a call can go on without its client."""

    @property
    def is_blocked(self) -> bool:
        """Whether the rest of a request, or room for a response, has to come."""
        return any(not one.ended or one.pending for one in self._connection.streams.values())


async def _exchange(server: _Open, content: bytes) -> bytes:
    client, protocol = Client(), _Shown(server)
    protocol.connection_made(client)
    protocol.data_received(frames.PREFACE + content)
    for _ in range(_LOOKS):
        if server.running:
            await asyncio.wait(server.running, timeout=_BLOCKED_SECONDS)
        if not server.running or protocol.is_blocked:
            break
    protocol.connection_lost(None)
    if server.running:
        _, pending = await asyncio.wait(server.running, timeout=PATIENCE)
        if pending:
            raise Hang
    return bytes(client.received)


def _split(content: bytes) -> list[tuple[int, int, int, bytes]]:
    """The frames in `content`: kind, flags, stream and payload; the last may be cut off."""
    found = []
    while len(content) >= frames.HEAD_SIZE:
        high, low, kind, flags, stream = frames.HEAD.unpack_from(content)
        end = frames.HEAD_SIZE + (high << 8 | low)
        found.append((kind, flags, stream, content[frames.HEAD_SIZE : end]))
        content = content[end:]
    return found


def _call(stream: int, method: str, content: bytes, *headers: tuple[str, str]) -> bytes:
    """The frames of a request of one message."""
    block = hpack.Encoder().encode(
        [
            *((":method", "POST"), (":scheme", "http"), (":path", _SERVICE + method)),
            *(("te", "trailers"), ("content-type", "application/grpc"), *headers),
        ]
    )
    packed = ("grpc-encoding", "gzip") in headers
    body = gzip.compress(content, mtime=0) if packed else content
    data = _MESSAGE.pack(packed, len(body)) + body
    return frames.frame(Kind.HEADERS, frames.END_HEADERS, stream, block) + frames.frame(
        Kind.DATA, frames.END_STREAM, stream, data
    )


def _infer() -> bytes:
    message = service_pb2.ModelInferRequest(model_name="m", id="r")
    message.raw_input_contents[:] = [b"\0\0\x80?" * 2, b"\1\0\0\0a"]
    message.inputs.add(name="a", datatype="FP32", shape=[1, 2])
    message.inputs.add(name="t", datatype="BYTES", shape=[1, 1])
    return bytes(message.SerializeToString())


def _seeds() -> list[bytes]:
    message = _infer()
    settings = frames.settings({Setting.INITIAL_WINDOW_SIZE: 1 << 20})
    infer = _call(1, "ModelInfer", message)
    packed = _call(
        1,
        "ModelInfer",
        message,
        ("grpc-encoding", "gzip"),
        ("grpc-accept-encoding", "gzip,identity"),
        ("grpc-timeout", "5S"),
    )
    streamed = _call(3, "ModelStreamInfer", message, ("x-request-id", "7"))
    return [
        settings + infer,
        settings + packed + frames.frame(Kind.PING, 0, 0, b"12345678"),
        settings + streamed,
        settings + infer + _call(3, "ServerLive", b"") + frames.window_update(0, 1000),
    ]


_WORDS: Final = (
    frames.settings({Setting.INITIAL_WINDOW_SIZE: 0}),
    frames.settings({Setting.MAX_FRAME_SIZE: 16_384}),
    frames.frame(Kind.SETTINGS, frames.ACK, 0),
    frames.frame(Kind.PING, 0, 0, b"12345678"),
    frames.frame(Kind.PRIORITY, 0, 1, b"\0\0\0\0\1"),
    frames.frame(Kind.CONTINUATION, frames.END_HEADERS, 1, b"\x82"),
    frames.frame(Kind.DATA, 0, 1, b"\0\0\0\0\1"),
    frames.frame(Kind.DATA, frames.PADDED, 1, b"\2ab\0\0"),
    frames.frame(Kind.GOAWAY, 0, 0, bytes(8)),
    frames.rst_stream(1, Fault.CANCEL),
    frames.window_update(1, 2**31 - 1),
    b"\x82",  # of the static table
    b"\x3f\xe1\x1f",  # a table of another size
    b"\x1f\xff\xff\xff\xff\xff\xff\xff",  # a number without an end
    bytes(_MESSAGE.pack(1, 5)),
)


def _change(rng: random.Random, content: bytes) -> bytes | None:
    """Changes one frame and has its head tell its size; or leaves it out, repeats or moves it."""
    found: list[Any] = _split(content)
    if not found:
        return None
    at = rng.randrange(len(found))
    kind, flags, stream, payload = found[at]
    what = rng.randrange(7)
    if what == 0:
        del found[at]
    elif what == 1:
        found.insert(rng.randint(0, len(found)), found[at])
    elif what == 2:
        found[at] = kind, flags ^ 1 << rng.randrange(8), stream, payload
    elif what == 3:
        found[at] = kind, flags, rng.choice(_NUMBERS), payload
    elif what == 4:
        found[at] = rng.randrange(12), flags, stream, payload
    elif what == 5 and payload:
        place = rng.randrange(len(payload))
        changed = payload[:place] + bytes([rng.randrange(256)]) + payload[place + 1 :]
        found[at] = kind, flags, stream, changed
    else:
        cut = rng.randint(0, len(payload))
        rest = kind, flags, stream, payload[cut:]
        found[at : at + 1] = [(kind, flags & ~1, stream, payload[:cut]), rest]
    return b"".join(frames.frame(*each) for each in found)


TARGETS: Final = (Target("http2", _Server().answer, _seeds(), _WORDS, _change),)
