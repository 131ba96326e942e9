"""gRPC's responses are packed where the server is told to and the client can unpack them."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import numpy as np
import pytest
from tritonclient.grpc import service_pb2_grpc

from serving.network_settings import CompressionLevel
from serving.types import InferenceRequest, InferenceResponse, Tensor
from tests.serving.gateway.scripted import SPEC, ScriptedEngine, message, serving

ZEROS = np.zeros(100_000, np.float32)
# What a client says that can unpack nothing.
PLAIN_ONLY = [("grpc.compression_enabled_algorithms_bitset", 1)]


async def zeros(request: InferenceRequest) -> AsyncGenerator[InferenceResponse, None]:
    tensor = Tensor(SPEC.name, SPEC.datatype, ZEROS)
    yield InferenceResponse(request.model, "1", (tensor,))


class Relay:
    """Passes a connection on to `address` and counts the bytes that come back."""

    def __init__(self, address: str) -> None:
        self._host, _, self._port = address.rpartition(":")
        self.count = 0

    @asynccontextmanager
    async def listen(self) -> AsyncIterator[str]:
        server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        async with server:
            host, port = server.sockets[0].getsockname()
            yield f"{host}:{port}"

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        back, forth = await asyncio.open_connection(self._host, int(self._port))
        await asyncio.gather(self._pass_on(reader, forth), self._pass_on(back, writer, counts=True))

    async def _pass_on(
        self, source: asyncio.StreamReader, to: asyncio.StreamWriter, counts: bool = False
    ) -> None:
        try:
            while piece := await source.read(65536):
                self.count += len(piece) * counts
                to.write(piece)
        except ConnectionError:
            pass
        to.close()


async def size_of_answer(level: CompressionLevel, options: list[tuple[str, Any]]) -> int:
    """How many bytes of an answer of 400 kB travel."""
    engine = ScriptedEngine(zeros=zeros)
    async with serving(engine, grpc_infer_response_compression_level=level) as address:
        relay = Relay(address)
        async with (
            relay.listen() as between,
            grpc.aio.insecure_channel(between, options) as channel,
        ):
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            answer = await stub.ModelInfer(message("zeros"))
    assert answer.raw_output_contents[0] == ZEROS.tobytes()
    return relay.count


@pytest.mark.parametrize("level", list(CompressionLevel)[1:])
async def test_responses_are_packed_at_every_level(level: CompressionLevel) -> None:
    assert await size_of_answer(level, []) < ZEROS.nbytes / 10


async def test_responses_are_plain_unless_asked_for() -> None:
    assert await size_of_answer(CompressionLevel.NONE, []) > ZEROS.nbytes


async def test_a_client_that_cannot_unpack_gets_plain_responses() -> None:
    assert await size_of_answer(CompressionLevel.HIGH, PLAIN_ONLY) > ZEROS.nbytes
