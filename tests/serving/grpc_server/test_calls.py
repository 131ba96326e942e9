"""Calls by gRPC's own client: every kind of method, with all that the protocol has."""

import asyncio
import gc
import threading
from collections.abc import Callable
from typing import Any

import grpc
import pytest

from serving.grpc_server import call, messages
from serving.grpc_server.policy import Policy
from serving.http2.stream import Stream
from tests.serving.grpc_server.serving import LIMIT, method, running

LARGE = bytes(range(256)) * 40 * 1024  # 10 MiB


def channel(address: str, *options: tuple[str, int], **rest: Any) -> Any:
    sizes = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))
    return grpc.aio.insecure_channel(address, options=(*sizes, *options), **rest)


@pytest.mark.parametrize("size", [0, 1, 16_379, 16_380, 65_535, 65_536, len(LARGE)])
async def test_a_message_of_any_size_comes_back(size: int) -> None:
    async with running() as (_, _, address), channel(address) as client:
        assert await method(client, "Echo")(LARGE[:size]) == LARGE[:size]


async def test_a_hundred_large_messages_on_one_connection_come_back() -> None:
    async with running() as (_, _, address), channel(address) as client:
        echo = method(client, "Echo")
        content = LARGE[: 2**20]
        replies = await asyncio.gather(*(echo(b"%03d" % i + content) for i in range(100)))
    assert [reply[:3] for reply in replies] == [b"%03d" % i for i in range(100)]
    assert all(reply[3:] == content for reply in replies)


async def test_a_thousand_calls_at_once_are_answered_each_with_its_own() -> None:
    async with running() as (_, _, address), channel(address) as client:
        echo = method(client, "Echo")
        contents = [b"%d" % index for index in range(3000)]
        assert await asyncio.gather(*map(echo, contents)) == contents


async def test_an_answered_call_is_gone_without_the_garbage_collector() -> None:
    async with running() as (_, _, address), channel(address) as client:
        gc.collect()
        before = alive()  # what tests before this one have left
        gc.disable()
        try:
            for _ in range(20):
                await method(client, "Echo")(b"x")
            left = alive() - before
        finally:
            gc.enable()
    # The last of them may not yet have been let go.
    assert left <= 2


def alive() -> int:
    """How many calls and streams there are."""
    return sum(type(one) in (call.Call, Stream) for one in gc.get_objects())


@pytest.mark.parametrize("packing", [grpc.Compression.Gzip, grpc.Compression.Deflate])
@pytest.mark.parametrize("encodings", [(), ("gzip", "deflate"), ("deflate", "gzip")])
async def test_messages_are_unpacked_and_packed(packing: Any, encodings: Any) -> None:
    async with (
        running(Policy(limit=LIMIT, encodings=encodings)) as (_, _, address),
        channel(address, compression=packing) as client,
    ):
        assert await method(client, "Echo")(LARGE) == LARGE


async def test_the_event_loop_goes_on_while_messages_are_packed_and_unpacked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asides = []

    def noted(name: str) -> Callable[..., bytes]:
        def act(*message: Any) -> bytes:
            asides.append((name, threading.current_thread() is not threading.main_thread()))
            return bytes(getattr(messages, name)(*message))

        return act

    for name in ("frame", "unpack"):
        monkeypatch.setattr(call, name, noted(name))
    async with (
        running(Policy(limit=LIMIT, encodings=("gzip",))) as (_, _, address),
        channel(address, compression=grpc.Compression.Gzip) as client,
    ):
        assert await method(client, "Echo")(LARGE) == LARGE
        assert await method(client, "Join", "stream_unary")([LARGE]) == LARGE
    assert asides == [("unpack", True), ("frame", True)] * 2


async def test_a_status_comes_with_its_message_and_its_metadata() -> None:
    async with running() as (_, _, address), channel(address) as client:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await method(client, "Fail")("50 % zu groß\n: ü".encode())
    assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert raised.value.details() == "50 % zu groß\n: ü"
    assert ("grpc-retry-pushback-ms", "5") in tuple(raised.value.trailing_metadata())


async def test_what_a_method_raises_is_logged_and_not_told(caplog: Any) -> None:
    async with running() as (_, _, address), channel(address) as client:
        with pytest.raises(grpc.aio.AioRpcError, match="see the server's log") as raised:
            await method(client, "Raise")(b"a secret")
    assert raised.value.code() is grpc.StatusCode.UNKNOWN
    assert "a secret" not in raised.value.details()
    assert "a secret" in caplog.text


async def test_a_method_that_is_none_is_unimplemented() -> None:
    async with running() as (_, _, address), channel(address) as client:
        with pytest.raises(grpc.aio.AioRpcError, match="Method not found: /test") as raised:
            await method(client, "None")(b"")
    assert raised.value.code() is grpc.StatusCode.UNIMPLEMENTED


@pytest.mark.parametrize("packing", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
async def test_a_message_above_the_limit_exhausts_the_resources(packing: Any) -> None:
    async with (
        running(Policy(limit=1000)) as (_, _, address),
        channel(address, compression=packing) as client,
    ):
        assert await method(client, "Echo")(bytes(1000)) == bytes(1000)
        with pytest.raises(grpc.aio.AioRpcError, match="larger than max") as raised:
            await method(client, "Echo")(bytes(1001))
    assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_metadata_arrive_as_they_were_sent() -> None:
    sent = (("key", "value"), ("key", "other"), ("binary-bin", b"\x00\xff,"))
    async with running() as (_, _, address), channel(address) as client:
        told = (await method(client, "Metadata")(b"", metadata=sent)).decode()
    for name, value in sent:
        assert repr((name, value)) in told
    assert "ipv4:127.0.0.1:" in told


@pytest.mark.parametrize("kind", ["unary_unary", "stream_stream"])
@pytest.mark.parametrize("packing", [grpc.Compression.NoCompression, grpc.Compression.Gzip])
async def test_what_a_method_tells_behind_its_answer_arrives(kind: str, packing: Any) -> None:
    async with running() as (_, _, address), channel(address) as client:
        if kind == "unary_unary":
            call = method(client, "Trail")(b"7 ms", compression=packing)
            assert await call == b"7 ms"
        else:
            call = method(client, "TrailEach", kind)(iter([b"7 ms"]), compression=packing)
            assert [each async for each in call] == [b"7 ms"]
        assert tuple(await call.trailing_metadata()) == (("took", "7 ms"), ("by", "hand"))
        assert await call.code() is grpc.StatusCode.OK


async def test_a_deadline_ends_the_call_on_both_sides() -> None:
    patience = 0.05
    async with running() as (_, methods, address), channel(address) as client:
        # Where the machine is slow, time may be up before the call has reached the server.
        while not methods.begun:
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await method(client, "Hold")(b"late", timeout=patience)
            patience *= 2
        await methods.until(lambda: methods.ended == methods.begun)
    assert raised.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_a_cancelled_call_is_cancelled_where_it_runs() -> None:
    async with running() as (_, methods, address), channel(address) as client:
        call = method(client, "Hold")(b"a")
        await methods.until(lambda: methods.begun == [b"a"])
        call.cancel()
        await methods.until(lambda: methods.ended == [b"a"])


async def test_a_client_that_goes_takes_its_calls_along() -> None:
    async with running() as (_, methods, address):
        async with channel(address) as client:
            calls = [method(client, "Hold")(b"%d" % index) for index in range(10)]
            await methods.until(lambda: len(methods.begun) == 10)
        await methods.until(lambda: len(methods.ended) == 10)
        assert all(call.cancelled() for call in calls)


async def test_responses_of_a_stream_come_one_by_one() -> None:
    async with running() as (_, _, address), channel(address) as client:
        call = method(client, "Count", "unary_stream")(b"3 0")
        assert [reply async for reply in call] == [b"0", b"1", b"2"]


async def test_requests_of_a_stream_go_one_by_one() -> None:
    async with running() as (_, _, address), channel(address) as client:
        call = method(client, "Join", "stream_unary")
        assert await call(iter([b"a", b"", LARGE, b"b"])) == b"a" + LARGE + b"b"


@pytest.mark.parametrize("name", ["Each", "Converse"])
async def test_both_ways_of_writing_a_conversation_work(name: str) -> None:
    async with running() as (_, _, address), channel(address) as client:
        call = method(client, name, "stream_stream")()
        for content in (b"a", LARGE, b"", b"c"):
            await call.write(content)
            assert await call.read() == content
        await call.done_writing()
        assert await call.read() is grpc.aio.EOF
        assert await call.code() is grpc.StatusCode.OK


async def test_who_does_not_read_a_stream_holds_up_only_that() -> None:
    async with running() as (_, methods, address), channel(address) as client:
        call = method(client, "Count", "unary_stream")(b"1000000 65536")
        await call.read()
        assert await method(client, "Echo")(b"a") == b"a"
        call.cancel()
    assert len(methods.begun) < 1000


class Gate(grpc.aio.ServerInterceptor):  # type: ignore[misc]  # an untyped library
    """Lets in who sends the word."""

    async def intercept_service(self, continuation: Any, details: Any) -> Any:
        if ("word", "sesame") in details.invocation_metadata:
            return await continuation(details)

        async def refuse(_: Any, context: Any) -> None:
            await context.abort(grpc.StatusCode.UNAUTHENTICATED, f"{details.method} wants a word")

        return grpc.stream_stream_rpc_method_handler(refuse)


@pytest.mark.parametrize("size", [1, 1_000_000])
async def test_an_interceptor_decides_who_is_answered(size: int) -> None:
    async with running(interceptors=(Gate(),)) as (_, _, address), channel(address) as client:
        echo, word = method(client, "Echo"), (("word", "sesame"),)
        assert await echo(bytes(size), metadata=word) == bytes(size)
        with pytest.raises(grpc.aio.AioRpcError, match="Service/Echo wants a word") as raised:
            await echo(bytes(size))
        count = method(client, "Count", "unary_stream")(b"2 0", metadata=word)
        assert [reply async for reply in count] == [b"0", b"1"]
        join = method(client, "Join", "stream_unary")
        assert await join(iter([b"a", b"b"]), metadata=word) == b"ab"
    assert raised.value.code() is grpc.StatusCode.UNAUTHENTICATED
