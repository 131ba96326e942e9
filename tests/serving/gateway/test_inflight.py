"""Large requests have room, of all connections together, or are refused at once: either way."""

import asyncio
from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from serving.gateway import inflight_bodies
from serving.gateway.errors import OWN
from serving.inflight import LARGE, Inflight
from tests.serving.engine.batching.driving import turns
from tests.serving.gateway.scripted import after, echo
from tests.serving.gateway.test_hot_lane import JSON, LIMIT, Server, post, serving

BIG = JSON[:-1] + b" " * (2 * LARGE) + b"}"
ROOM = 3 * LARGE  # for one of these


def test_a_single_request_has_room_however_large_and_small_ones_always() -> None:
    inflight = Inflight(ROOM)
    assert inflight.admits(10 * ROOM)
    held = inflight.take(10 * ROOM)
    assert not inflight.admits(LARGE)
    assert inflight.admits(LARGE - 1)
    assert inflight.take(LARGE - 1) == 0
    inflight.give_back(held)
    assert inflight.held == 0
    assert inflight.admits(ROOM)


def test_without_a_limit_everything_has_room() -> None:
    inflight = Inflight(0)
    inflight.take(2**40)
    assert inflight.admits(2**40)


@pytest.mark.parametrize("hot", [True, False])
async def test_what_has_no_room_is_refused_until_others_are_answered(hot: bool) -> None:
    ready = asyncio.Event()
    async with serving(slow=after(ready.wait), m=echo) as (server, engine):
        server.is_open = hot
        server.inflight.limit = ROOM
        async with server.client() as first, server.client() as second:
            waiting = asyncio.create_task(first.ask(post(BIG, target="/v2/models/slow/infer")))
            await engine.until(lambda: bool(engine.begun))
            refused = await second.ask(post(BIG))
            assert refused.status == 429
            assert refused.headers["retry-after"] == "1"
            assert b"--max-inflight-bytes" in refused.body
            assert (await second.ask(post(JSON))).status == 200
            ready.set()
            assert (await waiting).status == 200
            assert (await second.ask(post(BIG))).status == 200
        assert server.inflight.held == 0


async def until_holding(server: Server, anything: bool) -> None:
    async with asyncio.timeout(60):
        while bool(server.inflight.held) is not anything:
            await turns()


@pytest.mark.parametrize("hot", [True, False])
async def test_who_goes_before_all_is_sent_takes_no_room_any_more(hot: bool) -> None:
    async with serving(m=echo) as (server, _):
        server.is_open = hot
        async with server.client() as client:
            request = post(BIG)
            client.writer.write(request[: len(request) // 2])
            await until_holding(server, anything=True)
        await until_holding(server, anything=False)


async def test_a_body_of_no_stated_length_is_counted_as_it_comes() -> None:
    ready = asyncio.Event()
    async with serving(slow=after(ready.wait), m=echo) as (server, engine):
        server.inflight.limit = ROOM
        async with server.client() as first, server.client() as second:
            waiting = asyncio.create_task(first.ask(post(BIG, target="/v2/models/slow/infer")))
            await engine.until(lambda: bool(engine.begun))
            chunked = b"%x\r\n%b\r\n0\r\n\r\n" % (len(BIG), BIG)
            headers = "Transfer-Encoding: chunked\r\n"
            answer = await second.ask(post(chunked, headers=headers, sized=False))
            assert answer.status == 429
            ready.set()
            assert (await waiting).status == 200


async def test_a_packed_body_is_counted_as_what_it_may_become() -> None:
    inflight, seen = Inflight(0), list[int]()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        await receive()
        seen.append(inflight.held)

    async def receive() -> Message:
        return {"type": "http.request", "body": bytes(200)}

    async def send(_: Any) -> None:
        raise AssertionError("nothing is refused")

    call = inflight_bodies.http(app, inflight, LIMIT, OWN.http)
    for size in (200, 500_000):
        length = (b"content-length", b"%d" % size)
        # As it is unpacked, which the first says.
        packings = [(b"content-encoding", b"gzip"), (b"content-encoding", b"identity")]
        await call({"headers": [length, *packings]}, receive, send)
    assert seen == [200 * 1032, 500_000 + LIMIT]
    assert inflight.held == 0


@pytest.mark.parametrize("packing", [b"identity", b"gzip"])
async def test_a_body_that_comes_piece_by_piece_is_counted_as_what_it_may_become_so_far(
    packing: bytes,
) -> None:
    inflight, seen = Inflight(0), list[int]()
    pieces = [bytes(200), bytes(2 * LARGE), bytes(LIMIT)]

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        for _ in range(3):
            await receive()
            seen.append(inflight.held)

    async def receive() -> Message:
        return {"type": "http.request", "body": pieces.pop(0), "more_body": bool(pieces)}

    async def send(_: Any) -> None:
        raise AssertionError("nothing is refused")

    call = inflight_bodies.http(app, inflight, LIMIT, OWN.http)
    await call({"headers": [(b"content-encoding", packing)]}, receive, send)
    came = [200, 200 + 2 * LARGE, 200 + 2 * LARGE + LIMIT]
    most = {
        b"identity": [0, *came[1:]],
        b"gzip": [200 * 1032, *(size + LIMIT for size in came[1:])],
    }
    assert seen == most[packing]
    assert inflight.held == 0


async def test_a_single_request_of_no_stated_length_has_room_however_large() -> None:
    async with serving(m=echo) as (server, _), server.client() as client:
        server.inflight.limit = LARGE
        content = JSON[:-1] + b" " * (8 * LARGE) + b"}"
        pieces = (content[start : start + LARGE] for start in range(0, len(content), LARGE))
        chunked = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
        headers = "Transfer-Encoding: chunked\r\n"
        answer = await client.ask(post(chunked + b"0\r\n\r\n", headers=headers, sized=False))
        assert answer.status == 200, answer.body


async def test_a_request_past_the_parser_is_counted_as_well() -> None:
    ready = asyncio.Event()
    async with serving(m=after(ready.wait)) as (server, engine), server.client() as client:
        request = post(BIG)
        ready.set()
        assert (await client.ask(request)).status == 200
        assert server.lane.heads.find(request)
        ready.clear()
        waiting = asyncio.create_task(client.ask(request))
        await engine.until(lambda: len(engine.begun) == 2)
        assert server.inflight.held == len(BIG)
        ready.set()
        assert (await waiting).status == 200
        await until_holding(server, anything=False)
