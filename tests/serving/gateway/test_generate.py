"""generate and generate_stream over an engine that does what each test needs."""

import asyncio
import json
from collections.abc import AsyncGenerator
from typing import Any

import httpx
import pytest
from msgspec.structs import replace

from serving.errors import Internal, Overloaded
from serving.types import InferenceRequest, InferenceResponse, Timing
from tests.serving.gateway.asgi import Exchange, application
from tests.serving.gateway.scripted import ScriptedEngine, after, echo, response

EVENTS = "text/event-stream; charset=utf-8"
JSON = "application/json"
ONLY_ONE = (
    "generate expects model to produce exactly 1 response, use generate stream for model that "
    "generates various number of responses"
)


async def count(request: InferenceRequest) -> AsyncGenerator[InferenceResponse, None]:
    """As many responses as the request says."""
    for index in range(int(request.inputs[0].array[0])):
        yield response(request, index)


async def endless(request: InferenceRequest) -> AsyncGenerator[InferenceResponse, None]:
    while True:
        yield response(request)


def exchange(engine: ScriptedEngine, path: str, value: float = 0, **members: Any) -> Exchange:
    return Exchange(engine, f"/v2/models/{path}", {"x": value, **members})


def answer(value: float, model: str = "count") -> Any:
    return {"model_name": model, "model_version": "1", "x": value}


def event(document: Any) -> bytes:
    return b"data: " + json.dumps(document, separators=(",", ":")).encode() + b"\n\n"


@pytest.mark.parametrize("path", ["echo/generate", "echo/versions/1/generate"])
async def test_generate_gives_the_one_response(path: str) -> None:
    call = exchange(ScriptedEngine(echo=echo), path, 5, id="seven")
    assert await call.start() == (200, JSON)
    [body] = await call.rest()
    assert json.loads(body) == {"id": "seven", **answer(5, "echo")}


@pytest.mark.parametrize("responses", [0, 2, 1000])
async def test_generate_wants_exactly_one_response(responses: int) -> None:
    engine = ScriptedEngine(count=count)
    call = exchange(engine, "count/generate", responses)
    assert await call.start() == (400, JSON)
    assert [json.loads(body) for body in await call.rest()] == [{"error": ONLY_ONE}]
    assert engine.ended == [""]


async def test_generate_does_not_wait_for_all_of_too_many_responses() -> None:
    call = exchange(ScriptedEngine(endless=endless), "endless/generate")
    assert await call.start() == (400, JSON)
    await call.rest()


@pytest.mark.parametrize("path", ["count/generate_stream", "count/versions/1/generate_stream"])
async def test_generate_stream_gives_each_response_as_an_event(path: str) -> None:
    call = exchange(ScriptedEngine(count=count), path, 3)
    assert await call.start() == (200, EVENTS)
    assert await call.rest() == [event(answer(float(index))) for index in range(3)]


async def test_an_event_is_sent_when_its_response_is_there() -> None:
    go_on = asyncio.Event()

    async def pause(request: InferenceRequest) -> AsyncGenerator[InferenceResponse, None]:
        yield response(request, 1)
        await go_on.wait()
        yield response(request, 2)

    call = exchange(ScriptedEngine(pause=pause), "pause/generate_stream")
    await call.start()
    assert await call.piece() == event(answer(1.0, "pause"))
    go_on.set()
    assert await call.rest() == [event(answer(2.0, "pause"))]


async def test_no_response_makes_a_stream_without_events() -> None:
    call = exchange(ScriptedEngine(count=count), "count/generate_stream", 0)
    assert await call.start() == (200, EVENTS)
    assert await call.rest() == []


@pytest.mark.parametrize("method", ["generate", "generate_stream"])
async def test_an_error_before_the_first_response_has_its_status(method: str) -> None:
    async def refuse(request: InferenceRequest) -> AsyncGenerator[InferenceResponse, None]:
        if request.model:
            raise Overloaded("Exceeds maximum queue size")
        yield response(request)

    call = exchange(ScriptedEngine(refuse=refuse), f"refuse/{method}")
    assert await call.start() == (429, JSON)
    assert await call.rest() == [b'{"error":"Exceeds maximum queue size"}']


@pytest.mark.parametrize("method", ["generate", "generate_stream"])
async def test_what_cannot_be_decoded_never_reaches_the_engine(method: str) -> None:
    engine = ScriptedEngine(echo=echo)
    call = exchange(engine, f"echo/{method}", "no number")  # type: ignore[arg-type]
    assert await call.start() == (400, JSON)
    assert b"x: expected numbers within the range of FP32" in (await call.rest())[0]
    assert engine.begun == []


@pytest.mark.parametrize(
    ("raised", "told"),
    [
        (Internal("broke off"), "broke off"),
        (ZeroDivisionError("secret"), "internal error; see the server's log"),
    ],
)
async def test_an_error_after_the_first_response_is_the_last_event(
    raised: Exception, told: str
) -> None:
    async def break_off(request: InferenceRequest) -> AsyncGenerator[InferenceResponse, None]:
        yield response(request)
        raise raised

    call = exchange(ScriptedEngine(m=break_off), "m/generate_stream")
    assert await call.start() == (200, EVENTS)
    assert await call.rest() == [event(answer(0.0, "m")), event({"error": told})]


@pytest.mark.parametrize("method", ["generate", "generate_stream"])
async def test_a_client_that_leaves_before_the_first_response_frees_its_request(
    method: str,
) -> None:
    engine = ScriptedEngine(forever=after(asyncio.Event().wait))
    call = exchange(engine, f"forever/{method}")
    await engine.until(lambda: len(engine.begun) == 1)
    call.leave()
    await engine.until(lambda: len(engine.ended) == 1)
    await call.finish()


async def test_a_client_that_leaves_while_the_model_works_frees_its_request() -> None:
    async def stall(request: InferenceRequest) -> AsyncGenerator[InferenceResponse, None]:
        yield response(request)
        await asyncio.Event().wait()

    engine = ScriptedEngine(stall=stall)
    call = exchange(engine, "stall/generate_stream")
    await call.start()
    await call.piece()
    call.leave()
    await engine.until(lambda: len(engine.ended) == 1)
    await call.finish()


async def test_a_client_that_leaves_without_reading_frees_its_request() -> None:
    engine = ScriptedEngine(endless=endless)
    call = exchange(engine, "endless/generate_stream")
    await call.start()
    call.leave()
    await engine.until(lambda: len(engine.ended) == 1)
    await call.finish()


async def test_generate_says_where_the_time_went_if_the_model_does() -> None:
    async def timed(request: InferenceRequest) -> AsyncGenerator[InferenceResponse, None]:
        timing = Timing(1_000_000, 2_000_000, 3_000_000, 4_000_000, batch_rows=8)
        yield replace(response(request), timing=timing)

    app = application(ScriptedEngine(timed=timed, echo=echo))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as client:
        answers = [
            await client.post(f"/v2/models/{model}/generate", json={"x": 0})
            for model in ("timed", "echo")
        ]
    told = answers[0].headers["server-timing"]
    assert told.startswith('queue;dur=1.000, batch;desc="8 rows";dur=0.000, compute;dur=9.000, to')
    assert "server-timing" not in answers[1].headers


@pytest.mark.parametrize("route", ["generate", "generate_stream"])
@pytest.mark.parametrize("content", ["[]", '{"x": 0}'], ids=["not decoded", "failed"])
async def test_who_gets_nothing_is_told_how_long_that_took(route: str, content: str) -> None:
    async def failing(request: InferenceRequest) -> AsyncGenerator[InferenceResponse, None]:
        if request.inputs:
            raise Overloaded("no more")
        yield response(request)

    app = application(ScriptedEngine(failing=failing))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as client:
        answer = await client.post(f"/v2/models/failing/{route}", content=content)
    assert answer.status_code == (400 if content == "[]" else 429)
    assert answer.headers["server-timing"].startswith("total;dur=")
