"""Plain infer requests take the hot lane, all others the framework's way, and nobody can tell."""

import asyncio
import gc
import socket
import weakref
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import uvicorn
from starlette.types import Receive, Scope, Send

from serving.gateway import guard, inflight_bodies
from serving.gateway.app import create_app
from serving.gateway.authorisation import of_http
from serving.gateway.connections import Connections
from serving.gateway.errors import OWN
from serving.gateway.extensions import Extensions
from serving.gateway.hot_lane import HotLane, Lane
from serving.gateway.inference import Inference
from serving.gateway.lifecycle import Lifecycle
from serving.inflight import Inflight
from serving.logs import Logs
from serving.restrictions import Group, Restriction
from serving.settings import Settings
from serving.types import Array, InferenceRequest, InferenceResponse
from tests.serving.gateway.scripted import ScriptedEngine, after, echo, response

LIMIT = 1024 * 1024
JSON = b'{"id":"7","inputs":[{"name":"x","shape":[1],"datatype":"FP32","data":[3.5]}]}'
HEAD = (
    b'{"inputs":[{"name":"x","shape":[1],"datatype":"FP32","parameters":{"binary_data_size":4}}],'
    b'"parameters":{"binary_data_output":true}}'
)
BINARY = HEAD + np.float32(3.5).tobytes()
LENGTH = f"Inference-Header-Content-Length: {len(HEAD)}\r\n"


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


class Client:
    """One connection, written to byte by byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def ask(self, request: bytes) -> Answer:
        self.writer.write(request)
        return await self.answer()

    async def answer(self) -> Answer:
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
        status, *lines = head.rstrip().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines)
        size = int(headers.get("content-length", 0))
        return Answer(int(status.split()[1]), headers, await self.reader.readexactly(size))


class Server:
    """A uvicorn server with the lane; `elsewhere` counts what the framework was given."""

    def __init__(self, engine: ScriptedEngine, **options: Any) -> None:
        settings = Settings(http_max_input_size=LIMIT, **options)
        extensions = Extensions.of(settings, Logs(settings))
        app = create_app(engine, Lifecycle(engine), settings, extensions)
        self.is_open = True
        authorisation = of_http(settings, None)
        self.inflight = Inflight(0)
        bounded = inflight_bodies.http(app, self.inflight, LIMIT, OWN.http)
        self._app = guard.http(bounded, authorisation, OWN.http)
        self.lane = Lane(
            *(Inference(engine, None), OWN.http, LIMIT, authorisation, lambda: self.is_open),
            inflight=self.inflight,
        )
        self.elsewhere = 0
        self.port = 0
        self.running: uvicorn.Server

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.elsewhere += 1
        await self._app(scope, receive, send)

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Client]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            yield Client(reader, writer)
        finally:
            writer.close()
            await writer.wait_closed()


@asynccontextmanager
async def serving(
    restricted: tuple[Restriction, ...] = (), **models: Any
) -> AsyncIterator[tuple[Server, ScriptedEngine]]:
    engine = ScriptedEngine(**models)
    server = Server(engine, http_restricted_api=restricted)
    protocol: Any = partial(HotLane, server.lane, Connections(Settings()))
    config = uvicorn.Config(
        server.app,
        http=protocol,
        interface="asgi3",
        ws="none",
        lifespan="off",
        log_config=None,
        server_header=False,
    )
    running = server.running = uvicorn.Server(config)
    listener = socket.create_server(("127.0.0.1", 0))
    server.port = listener.getsockname()[1]
    task = asyncio.create_task(running.serve([listener]))
    try:
        yield server, engine
    finally:
        running.should_exit = True
        await task


def post(
    body: bytes,
    *,
    target: str = "/v2/models/m/infer",
    headers: str = "",
    line: str = "POST {} HTTP/1.1",
    sized: bool = True,
) -> bytes:
    size = f"Content-Length: {len(body)}\r\n" if sized else ""
    return f"{line.format(target)}\r\nHost: test\r\n{size}{headers}\r\n".encode() + body


REQUESTS = {
    "JSON": post(JSON),
    "a version": post(JSON, target="/v2/models/m/versions/1/infer"),
    "binary": post(BINARY, headers=LENGTH),
    "raw": post(np.float32(2).tobytes(), headers="Inference-Header-Content-Length: 0\r\n"),
    "two header lengths": post(BINARY, headers=f"{LENGTH}Inference-Header-Content-Length: 1\r\n"),
    "packed answers": post(JSON, headers="Accept-Encoding: gzip\r\n"),
    "no JSON": post(b"{"),
    "no body": post(b""),
    "no such input": post(JSON.replace(b'"x"', b'"y"').replace(b"[3.5]", b'"3.5"')),
    "no such model": post(JSON, target="/v2/models/n/infer"),
    "no such model, and no JSON": post(b"{", target="/v2/models/n/infer"),
    "header length too large": post(JSON, headers="Inference-Header-Content-Length: 9999\r\n"),
    "header length no number": post(JSON, headers="Inference-Header-Content-Length: \xe9\r\n"),
    "a bug": post(JSON, target="/v2/models/broken/infer"),
}


async def broken(request: InferenceRequest) -> AsyncGenerator[InferenceResponse, None]:
    if request.model:
        raise RuntimeError("a bug")
    yield response(request)


@pytest.mark.parametrize("name", REQUESTS)
async def test_both_ways_end_in_the_same_answer(name: str) -> None:
    async with serving(m=echo, broken=broken) as (server, _), server.client() as client:
        hot = await client.ask(REQUESTS[name])
        assert server.lane.heads.find(REQUESTS[name])
        again = await client.ask(REQUESTS[name])
        assert server.elsewhere == 0
        server.is_open = False
        other = await client.ask(REQUESTS[name])
        assert server.elsewhere == 1
    for answer in (hot, again, other):
        answer.headers.pop("date")
        # Told either way, and different each time.
        if "server-timing" in answer.headers:
            answer.headers["server-timing"] = "total"
    assert hot == again == other


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        pytest.param(post(JSON, target="/v2/models/m/infer?x=1"), 200, id="a query"),
        pytest.param(post(JSON, target="/v2/models/%6d/infer"), 200, id="an escape"),
        pytest.param(post(JSON, target="/v2/models/m/infer/"), 404, id="another path"),
        pytest.param(post(JSON, line="PUT {} HTTP/1.1"), 405, id="another method"),
        pytest.param(post(b"x", headers="Content-Encoding: gzip\r\n"), 400, id="packed"),
        pytest.param(post(bytes(LIMIT + 1)), 413, id="too large"),
        pytest.param(
            post(
                b"%x\r\n%b\r\n0\r\n\r\n" % (len(JSON), JSON),
                headers="Transfer-Encoding: chunked\r\n",
                sized=False,
            ),
            200,
            id="in chunks",
        ),
        pytest.param(post(JSON, line="POST {} HTTP/1.0"), 200, id="HTTP/1.0"),
        pytest.param(post(JSON, headers="Connection: close\r\n"), 200, id="the last"),
    ],
)
async def test_whatever_asks_for_more_goes_the_whole_way(request_: bytes, status: int) -> None:
    async with serving(m=echo) as (server, _), server.client() as client:
        answer = await client.ask(request_)
        assert (answer.status, server.elsewhere) == (status, 1)


async def test_of_http_1_0_a_connection_stays_where_it_is_asked_for() -> None:
    request = post(JSON, headers="Connection: Keep-Alive\r\n", line="POST {} HTTP/1.0")
    async with serving(m=echo) as (server, _), server.client() as client:
        for _ in range(3):
            answer = await client.ask(request)
            assert answer.status == 200
            assert answer.headers["connection"] == "keep-alive"
        assert "connection" not in (await client.ask(post(JSON))).headers
        assert server.elsewhere == 0


async def test_who_may_not_ask_is_refused_by_the_framework_and_who_may_is_in_the_lane() -> None:
    restriction = Restriction((Group.INFERENCE,), "key", "secret")
    async with serving((restriction,), m=echo) as (server, _), server.client() as client:
        assert (await client.ask(post(JSON))).status == 403
        assert (await client.ask(post(JSON, headers="Key: wrong\r\n"))).status == 403
        assert server.elsewhere == 2
        for _ in range(2):
            assert (await client.ask(post(JSON, headers="Key: secret\r\n"))).status == 200
        assert server.elsewhere == 2


async def test_a_known_head_is_let_in_as_long_as_its_key_is() -> None:
    restriction = Restriction((Group.INFERENCE,), "key", "secret")
    async with serving((restriction,), m=echo) as (server, _), server.client() as client:
        request = post(JSON, headers="Key: secret\r\n")
        assert (await client.ask(request)).status == 200
        (head, _) = server.lane.heads.find(request) or pytest.fail("the head is not known")
        assert server.lane.lets_in(head.fields)
        other = Restriction((Group.INFERENCE,), "key", "new")
        changed = of_http(Settings(http_restricted_api=(other,)), None)
        assert not replace(server.lane, authorisation=changed).lets_in(head.fields)


async def test_expecting_to_continue_goes_the_whole_way() -> None:
    async with serving(m=echo) as (server, _), server.client() as client:
        request = post(JSON, headers="Expect: 100-continue\r\n")
        assert (await client.ask(request.removesuffix(JSON))).status == 100
        assert (await client.ask(JSON)).status == 200
        assert server.elsewhere == 1


async def test_what_is_sent_at_once_is_answered_in_order() -> None:
    gate = asyncio.Event()
    async with (
        serving(m=echo, slow=after(gate.wait)) as (server, engine),
        server.client() as client,
    ):
        requests = [
            post(JSON.replace(b"7", b"first"), target="/v2/models/slow/infer"),
            post(JSON.replace(b"7", b"second")),
            post(JSON, target="/v2/nothing"),
            post(JSON.replace(b"7", b"third")),
            post(JSON.replace(b"7", b"fourth")),
        ]
        client.writer.write(b"".join(requests))
        await engine.until(lambda: engine.begun == ["first"])
        gate.set()
        answers = [await client.answer() for _ in requests]
    assert [answer.status for answer in answers] == [200, 200, 404, 200, 200]
    assert engine.begun == ["first", "second", "third", "fourth"]


async def test_a_body_may_come_in_any_pieces() -> None:
    async with serving(m=echo) as (server, _), server.client() as client:
        request = post(BINARY, headers=LENGTH)
        for place in range(len(request)):
            client.writer.write(request[place : place + 1])
            await client.writer.drain()
            await asyncio.sleep(0)
        assert (await client.answer()).body.endswith(np.float32(3.5).tobytes())
        assert server.elsewhere == 0


@pytest.mark.parametrize("cut", [0, 1, len(BINARY) - 1, len(BINARY)])
async def test_the_body_behind_a_known_head_may_come_later(cut: int) -> None:
    async with serving(m=echo) as (server, _), server.client() as client:
        request = post(BINARY, headers=LENGTH)
        expected = (await client.ask(request)).body
        size = len(request) - len(BINARY) + cut
        client.writer.write(request[:size])
        await client.writer.drain()
        await asyncio.sleep(0)
        assert (await client.ask(request[size:])).body == expected
        assert server.elsewhere == 0


async def test_known_heads_that_come_at_once_are_answered_in_order() -> None:
    async with serving(m=echo) as (server, engine), server.client() as client:
        requests = [post(JSON.replace(b"7", b"%d" % number)) for number in range(4)]
        assert (await client.ask(requests[0])).status == 200
        client.writer.write(b"".join(requests[1:]))
        for _ in requests[1:]:
            assert (await client.answer()).status == 200
        assert engine.begun == ["0", "1", "2", "3"]


def large(value: float) -> bytes:
    """A request of 400 KB."""
    numbers = np.full(100_000, value, np.float32)
    head = HEAD.replace(b"[1]", b"[100000]").replace(b":4", b":400000")
    length = f"Inference-Header-Content-Length: {len(head)}\r\n"
    return post(head + numbers.tobytes(), headers=length)


async def test_large_bodies_behind_known_heads_arrive_whole_and_in_order() -> None:
    async with serving(m=echo) as (server, _), server.client() as client:
        for value in range(1, 4):
            answer = await client.ask(large(value))
            assert answer.body[-4:] == np.float32(value).tobytes()
        assert server.elsewhere == 0
        # Whoever does not wait for an answer is served by the framework.
        client.writer.write(large(4) + post(JSON) + large(5) + large(6))
        answers = [await client.answer() for _ in range(4)]
        assert [answer.status for answer in answers] == [200] * 4
        tails = [answers[index].body[-4:] for index in (0, 2, 3)]
        assert tails == [np.float32(value).tobytes() for value in (4, 5, 6)]


async def test_a_client_that_goes_amid_a_large_body_leaves_nothing_behind() -> None:
    async with serving(m=echo) as (server, engine):
        async with server.client() as client:
            assert (await client.ask(large(1))).status == 200
            begun = server.running.server_state.total_requests
            client.writer.write(large(2)[:-1])
            await client.writer.drain()
        connections = server.running.server_state.connections
        async with asyncio.timeout(60):
            while connections:  # noqa: ASYNC110  nobody tells when it is over
                await asyncio.sleep(0.001)
        assert server.running.server_state.total_requests == begun
        assert len(engine.begun) == 1


async def test_a_server_that_stops_waits_for_a_large_body_under_way() -> None:
    async with serving(m=echo) as (server, _), server.client() as client:
        assert (await client.ask(large(1))).status == 200
        client.writer.write(large(2)[:200_000])
        await client.writer.drain()
        [connection] = server.running.server_state.connections
        assert isinstance(connection, HotLane)
        async with asyncio.timeout(60):
            while connection.is_idle:  # noqa: ASYNC110  nobody tells when it begins
                await asyncio.sleep(0.001)
        connection.shutdown()
        answer = await client.ask(large(2)[200_000:])
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        assert answer.body.endswith(np.float32(2).tobytes())


async def test_what_looks_like_a_known_head_within_another_is_none() -> None:
    async with serving(m=echo) as (server, engine), server.client() as client:
        request = post(JSON)
        assert (await client.ask(request)).status == 200
        # The answer says that the parser has the rest of that piece, too.
        await client.ask(request + b"POST /v2/nothing HTTP/1.1\r\nHost: test\r\nX-Quote: ")
        assert (await client.ask(request)).status == 404
        assert engine.begun == ["7", "7"]


async def test_nothing_is_done_any_more_for_a_client_that_has_gone() -> None:
    async with serving(slow=after(asyncio.Event().wait)) as (server, engine):
        async with server.client() as client:
            client.writer.write(post(JSON, target="/v2/models/slow/infer"))
            await engine.until(lambda: engine.begun == ["7"])
        await engine.until(lambda: engine.ended == ["7"])


async def test_what_a_client_that_has_gone_sent_goes_without_the_garbage_collector() -> None:
    sent: list[weakref.ref[Array]] = []

    async def slow(request: InferenceRequest) -> AsyncGenerator[InferenceResponse, None]:
        sent.append(weakref.ref(request.inputs[0].array))
        await asyncio.Event().wait()
        yield response(request)

    async with serving(slow=slow) as (server, engine):
        gc.disable()
        try:
            async with server.client() as client:
                client.writer.write(post(JSON, target="/v2/models/slow/infer"))
                await engine.until(lambda: engine.begun == ["7"])
            async with asyncio.timeout(60):
                while server.running.server_state.tasks:  # noqa: ASYNC110  nobody tells
                    await asyncio.sleep(0.001)
            left = [array() for array in sent]
        finally:
            gc.enable()
    assert left == [None]


async def test_a_server_that_stops_answers_what_it_has_and_closes() -> None:
    gate = asyncio.Event()
    async with serving(slow=after(gate.wait)) as (server, engine), server.client() as client:
        client.writer.write(post(JSON, target="/v2/models/slow/infer"))
        await engine.until(lambda: engine.begun == ["7"])
        for connection in server.running.server_state.connections:
            connection.shutdown()
        gate.set()
        answer = await client.answer()
        assert (answer.status, answer.headers["connection"]) == (200, "close")
        assert await client.reader.read() == b""
