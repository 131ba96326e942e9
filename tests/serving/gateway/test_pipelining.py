"""What a client sends before it is answered cannot harm the requests that it has sent before."""

import asyncio
import json
from typing import Final

import pytest

from tests.serving.gateway.scripted import after, echo
from tests.serving.gateway.test_hot_lane import JSON, Client, post, serving

HOT: Final = "/v2/models/{}/infer"
# A query is nothing for the lane.
ELSEWHERE: Final = "/v2/models/{}/infer?x=1"
WAYS: Final = {
    "in the lane": [HOT],
    "elsewhere": [ELSEWHERE],
    "first in the lane": [HOT, ELSEWHERE, HOT],
    "first elsewhere": [ELSEWHERE, HOT, ELSEWHERE],
}
CHUNKED: Final = post(b"", headers="Transfer-Encoding: chunked\r\n", sized=False) + b"2\r\n{}\r\n"
# More than what is read at a time and the limit together.
FILLER: Final = b"x" * 400_000
MALFORMED: Final = {
    "no request": (b"no request\r\n\r\n", 400),
    "another version": (b"GET /v2 HTTP/9.9\r\n\r\n", 400),
    "no path": (b"GET ?x HTTP/1.1\r\nHost: test\r\n\r\n", 400),
    "a length in words": (post(JSON, headers="Content-Length: all\r\n", sized=False), 400),
    "a large head": (b"GET /v2 HTTP/1.1\r\nHost: test\r\nX: " + FILLER + b"\r\n\r\n", 431),
    "a head without end": (b"GET /v2 HTTP/1.1\r\nHost: test\r\nX: " + FILLER, 431),
    "a chunk of no size": (CHUNKED + b"x\r\n", 400),
    "a chunk extension without end": (CHUNKED + b"2;" + FILLER, 431),
    "trailers without end": (CHUNKED + b"0\r\nX: " + FILLER, 431),
}


def asked(model: str, number: int, target: str) -> bytes:
    body = JSON.replace(b'"7"', b'"%d"' % number).replace(b"3.5", b"%d.5" % number)
    return post(body, target=target.format(model))


def good(targets: list[str]) -> bytes:
    """Requests to these, of which the first takes as long as the test wants."""
    return b"".join(
        asked("m" if number else "slow", number, target) for number, target in enumerate(targets)
    )


async def ids(client: Client, count: int) -> list[str]:
    """Of so many answers, which must have what was asked for."""
    found = []
    for _ in range(count):
        answer = await client.answer()
        assert answer.status == 200
        document = json.loads(answer.body)
        assert document["outputs"][0]["data"] == [float(document["id"]) + 0.5]
        found.append(document["id"])
    return found


async def turns() -> None:
    """Some of the loop, in which all that has been sent is read."""
    for _ in range(100):
        await asyncio.sleep(0)


@pytest.mark.parametrize("targets", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize(("malformed", "status"), MALFORMED.values(), ids=MALFORMED)
async def test_what_came_before_something_malformed_is_answered_first(
    targets: list[str], malformed: bytes, status: int
) -> None:
    async with serving(m=echo, slow=after(turns)) as (server, engine), server.client() as client:
        client.writer.write(good(targets))
        await engine.until(lambda: engine.begun == ["0"])
        client.writer.write(malformed)
        expected = [str(number) for number in range(len(targets))]
        assert await ids(client, len(targets)) == expected
        refusal = await client.answer()
        assert (refusal.status, refusal.headers["connection"]) == (status, "close")
        assert "error" in json.loads(refusal.body)
        assert await client.reader.read() == b""
        assert engine.begun == engine.ended == expected


@pytest.mark.parametrize("targets", WAYS.values(), ids=WAYS)
async def test_nothing_behind_something_malformed_is_read(targets: list[str]) -> None:
    async with serving(m=echo, slow=after(turns)) as (server, engine), server.client() as client:
        client.writer.write(good(targets) + b"no request\r\n\r\n" + post(JSON))
        await ids(client, len(targets))
        assert (await client.answer()).status == 400
        assert await client.reader.read() == b""
        assert "7" not in engine.begun


@pytest.mark.parametrize("target", [HOT, ELSEWHERE], ids=["in the lane", "elsewhere"])
async def test_who_goes_after_something_malformed_frees_everything(target: str) -> None:
    async with serving(m=echo, slow=after(asyncio.Event().wait)) as (server, engine):
        async with server.client() as client:
            client.writer.write(good([target]))
            await engine.until(lambda: engine.begun == ["0"])
            client.writer.write(MALFORMED["a chunk of no size"][0])
            await turns()
            assert engine.ended == []
        await engine.until(lambda: engine.ended == ["0"])
        async with asyncio.timeout(60):
            while server.running.server_state.connections:  # noqa: ASYNC110  nobody tells
                await asyncio.sleep(0.001)


@pytest.mark.parametrize("target", [HOT, ELSEWHERE], ids=["in the lane", "elsewhere"])
async def test_a_server_that_stops_answers_what_came_before(target: str) -> None:
    gate = asyncio.Event()
    async with serving(slow=after(gate.wait)) as (server, engine), server.client() as client:
        client.writer.write(good([target]))
        await engine.until(lambda: engine.begun == ["0"])
        client.writer.write(b"no request\r\n\r\n")
        await turns()
        for connection in server.running.server_state.connections:
            connection.shutdown()
        gate.set()
        assert await ids(client, 1) == ["0"]
        assert (await client.answer()).status == 400
        assert await client.reader.read() == b""


async def test_who_would_rather_speak_http_2_is_answered_however_the_request_comes() -> None:
    headers = "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
    request = post(JSON, headers=headers)
    async with serving(m=echo) as (server, _), server.client() as client:
        for size in (len(request), len(request) - len(JSON), len(request) - 1, 7):
            for begin in range(0, len(request), size):
                client.writer.write(request[begin : begin + size])
                await turns()
            answer = await client.answer()
            assert json.loads(answer.body)["outputs"][0]["data"] == [3.5]
        assert server.elsewhere == 0
