"""Calls end exactly once, whatever the other side does to them."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial

import grpc
import pytest

from serving.bench.client.caller import Call, Caller, Ending
from serving.bench.client.grpc_caller import METHOD, GrpcCaller
from serving.bench.client.http_caller import HttpCaller
from serving.bench.plan import Protocol, Target

SECOND = 1_000_000_000
Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
REQUEST = b"POST / HTTP/1.1\r\nContent-Length: 0\r\n\r\n"


def right(body: int, answer: bytes, json_length: int | None) -> str | None:
    return None if answer == b"ok" else f"not ok: {answer!r}"


@asynccontextmanager
async def http_server(answer: Answer) -> AsyncIterator[Target]:
    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield target(server.sockets[0].getsockname()[1])


def target(port: int, protocol: Protocol = Protocol.BINARY) -> Target:
    return Target(protocol, "127.0.0.1", port, "m")


def saying(text: bytes, is_closing: bool = False) -> Answer:
    """A server that says the same to every request."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                writer.write(text)
                if is_closing:
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    return answer


def settle(ended: asyncio.Future[Ending], call: Call, now: int, ending: Ending) -> None:
    ended.set_result(ending)  # raises if it has ended before


async def ask(
    caller: Caller, patience: float = 60.0, times: int = 1, content: bytes = REQUEST
) -> list[Ending]:
    """How so many calls, one after the other, ended."""
    endings: list[Ending] = []
    for _ in range(times):
        ended: asyncio.Future[Ending] = asyncio.get_running_loop().create_future()
        caller.ended = partial(settle, ended)
        now = time.monotonic_ns()
        caller.call(Call(0, now, now + int(patience * SECOND), content))
        endings.append(await ended)
    return endings


async def ask_http(answer: Answer, patience: float = 60.0, times: int = 1) -> list[Ending]:
    async with http_server(answer) as where:
        caller = HttpCaller(where, right)
        try:
            return await ask(caller, patience, times)
        finally:
            await caller.close()


async def test_connections_are_used_again() -> None:
    opened = 0
    inner = saying(OK)

    async def counting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal opened
        opened += 1
        await inner(reader, writer)

    endings = await ask_http(counting, times=5)

    assert [ending.failure for ending in endings] == [None] * 5
    assert opened == 1


async def test_a_server_that_closes_each_connection_is_asked_on_new_ones() -> None:
    text = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"
    endings = await ask_http(saying(text, is_closing=True), times=3)

    assert [ending.failure for ending in endings] == [None] * 3


@pytest.mark.parametrize(
    ("said", "is_closing", "status", "message"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno", False, "wrong answer", "not ok: b'no'"),
        (b"HTTP/1.1 500 No\r\nContent-Length: 4\r\n\r\noops", False, "HTTP 500", "oops"),
        (
            b'HTTP/1.1 429 No\r\nContent-Length: 15\r\n\r\n{"error":"busy"',
            False,
            "HTTP 429",
            '{"error":"busy"',
        ),
        (
            b'HTTP/1.1 429 No\r\nContent-Length: 16\r\n\r\n{"error":"busy"}',
            False,
            "HTTP 429",
            "busy",
        ),
        (b"HTTP/1.1 204 No\r\n\r\n", False, "HTTP 204", "no message"),
        (b"", True, "connection", "closed before the answer"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok", True, "connection", "closed before"),
        (b"SSH-2.0-OpenSSH\r\n", False, "connection", "the answer is not HTTP/1.1"),
    ],
)
async def test_a_failure_has_a_status_and_a_message(
    said: bytes, is_closing: bool, status: str, message: str
) -> None:
    (ending,) = await ask_http(saying(said, is_closing))

    assert ending.failure is not None
    assert ending.failure.status == status
    assert ending.failure.message.startswith(message)
    assert ending.is_lost is (status == "connection")


async def test_an_answer_in_pieces_is_one_answer() -> None:
    async def slowly(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        for index in range(len(OK)):
            writer.write(OK[index : index + 1])
            await writer.drain()
        writer.close()

    (ending,) = await ask_http(slowly)

    assert ending.failure is None


async def test_a_server_that_never_answers_times_out_and_the_next_call_goes_elsewhere() -> None:
    silent = True

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal silent
        was_silent, silent = silent, False
        if was_silent:
            await reader.read()
            await reader.read()
        await saying(b"" if was_silent else OK)(reader, writer)

    async with http_server(answer) as where:
        caller = HttpCaller(where, right)
        (first,) = await ask(caller, patience=0.05)
        (second,) = await ask(caller)
        await caller.close()

    assert first.failure is not None
    assert first.failure.status == "timeout"
    assert second.failure is None


@pytest.mark.parametrize("protocol", [Protocol.BINARY, Protocol.GRPC])
async def test_nobody_at_the_port_is_a_failure_of_the_connection(protocol: Protocol) -> None:
    server = await asyncio.start_server(saying(OK), "127.0.0.1", 0)
    where = target(server.sockets[0].getsockname()[1], protocol)
    server.close()
    await server.wait_closed()
    caller: Caller = HttpCaller(where, right)
    if protocol is Protocol.GRPC:
        caller = GrpcCaller(where, right, channels=1)
    (ending,) = await ask(caller)
    await caller.close()

    assert ending.is_lost
    assert ending.failure is not None
    assert "refused" in ending.failure.message.lower()


@asynccontextmanager
async def grpc_server(
    answer: Callable[[bytes, grpc.aio.ServicerContext], Awaitable[bytes]],
) -> AsyncIterator[Target]:
    service, _, method = METHOD[1:].partition("/")
    server = grpc.aio.server()
    handler = grpc.unary_unary_rpc_method_handler(answer)
    generic = grpc.method_handlers_generic_handler(service, {method: handler})
    server.add_generic_rpc_handlers((generic,))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield target(port, Protocol.GRPC)
    finally:
        await server.stop(None)


async def ask_grpc(
    answer: Callable[[bytes, grpc.aio.ServicerContext], Awaitable[bytes]], patience: float = 60.0
) -> Ending:
    async with grpc_server(answer) as where:
        caller = GrpcCaller(where, right, channels=1)
        await caller.open(1)
        (ending,) = await ask(caller, patience, content=b"ok")
        await caller.close()
    return ending


async def test_grpc_brings_the_bytes_there_and_the_servers_own_account_back() -> None:
    async def echo(request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        context.set_trailing_metadata((("server-timing", "queue;dur=1"),))
        return request

    ending = await ask_grpc(echo)

    assert (ending.failure, ending.timing) == (None, "queue;dur=1")


@pytest.mark.parametrize("code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.INVALID_ARGUMENT])
async def test_a_grpc_server_that_refuses_is_there(code: grpc.StatusCode) -> None:
    async def refuse(request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        await context.abort(code, "Exceeds maximum queue size")
        return b""

    ending = await ask_grpc(refuse)

    assert ending.failure == (f"gRPC {code.name}", "Exceeds maximum queue size")
    assert not ending.is_lost


async def test_the_grpc_deadline_reaches_the_server_and_is_kept_here() -> None:
    left: list[float] = []

    async def wait(request: bytes, context: grpc.aio.ServicerContext) -> bytes:
        left.append(context.time_remaining())
        await asyncio.Event().wait()
        return b""

    ending = await ask_grpc(wait, patience=1.0)

    assert ending.failure is not None
    assert ending.failure.status == "timeout"
    # As the server sees it, whose clock begins a little later.
    assert 0 < left[0] < 2
