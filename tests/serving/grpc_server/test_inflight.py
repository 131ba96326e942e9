"""Large messages have room, of all connections together, or are refused at once."""

import asyncio

import grpc
import pytest

from serving.grpc_server.messages import PREFIX, frame
from serving.grpc_server.policy import Policy
from serving.http2.frames import Kind, Setting
from serving.inflight import LARGE, Inflight
from tests.serving.grpc_server.serving import method, raw, running
from tests.serving.grpc_server.test_calls import channel

BIG = bytes(4 * LARGE)


def policy(inflight: Inflight) -> Policy:
    return Policy(limit=10 * len(BIG), inflight=inflight)


async def test_a_message_without_room_is_refused_until_others_are_answered() -> None:
    inflight = Inflight(len(BIG))
    async with (
        running(policy(inflight)) as (_, methods, address),
        channel(address) as client,
    ):
        held = asyncio.ensure_future(method(client, "Hold")(BIG))
        await methods.until(lambda: bool(methods.begun))
        assert 0 < inflight.held <= len(BIG) + 5
        with pytest.raises(grpc.aio.AioRpcError, match="--max-inflight-bytes") as refused:
            await method(client, "Echo")(BIG)
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert ("grpc-retry-pushback-ms", "1000") in tuple(refused.value.trailing_metadata())
        assert await method(client, "Echo")(b"small") == b"small"
        methods.go.set()
        assert await held == BIG
        assert await method(client, "Echo")(BIG) == BIG
        assert inflight.held == 0


async def test_a_packed_message_has_room_as_what_it_comes_to() -> None:
    inflight = Inflight(len(BIG))
    async with (
        running(policy(inflight)) as (_, methods, address),
        channel(address, compression=grpc.Compression.Gzip) as client,
    ):
        held = asyncio.ensure_future(method(client, "Hold")(BIG))
        await methods.until(lambda: bool(methods.begun))
        assert inflight.held == len(BIG)
        for again in (method(client, "Echo")(BIG), method(client, "Join", "stream_unary")([BIG])):
            with pytest.raises(grpc.aio.AioRpcError, match="--max-inflight-bytes") as refused:
                await again
            assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        methods.go.set()
        assert await held == BIG
        assert await method(client, "Join", "stream_unary")([BIG, BIG]) == BIG + BIG
        assert inflight.held == 0


async def test_a_stream_gives_room_back_with_each_message_that_is_answered() -> None:
    inflight = Inflight(0)
    async with running(policy(inflight)) as (_, _, address), channel(address) as client:
        call = method(client, "Converse", "stream_stream")()
        for _ in range(5):
            await call.write(BIG)
            assert await call.read() == BIG
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF
        assert inflight.held == 0


async def test_a_call_that_is_cancelled_takes_no_room_any_more() -> None:
    inflight = Inflight(0)
    async with (
        running(policy(inflight)) as (_, methods, address),
        channel(address) as client,
    ):
        call = method(client, "Hold")(BIG)
        await methods.until(lambda: bool(methods.begun))
        assert inflight.held
        call.cancel()
        await methods.until(lambda: bool(methods.ended))
        assert inflight.held == 0


async def test_a_call_that_is_over_takes_no_room_while_its_answer_waits() -> None:
    inflight = Inflight(0)
    async with (
        running(policy(inflight)) as (_, _, address),
        raw(address, (Setting.INITIAL_WINDOW_SIZE, 0)) as client,
    ):
        client.head(1, "Converse")
        client.data(1, frame(b"to be answered"), ends=False)
        await client.until(Kind.HEADERS, 1)
        client.data(1, b"\2\0\0\0\0", ends=False)  # no message, which ends the call
        client.data(1, PREFIX.pack(0, len(BIG)), ends=False)
        client.send(Kind.RST_STREAM, 0, 1, bytes(4))
        client.send(Kind.PING, 0, 0, bytes(8))
        await client.until(Kind.PING)
        assert inflight.held == 0
