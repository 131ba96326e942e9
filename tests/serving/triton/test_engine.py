"""Which server answers, and what becomes of requests that it does not: real calls on loopback."""

import asyncio
import gc
import time
import weakref
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, suppress
from dataclasses import dataclass

import grpc
import numpy as np
import pytest

from bench.peers.base import free_ports
from serving.dtypes import Datatype
from serving.engine_settings import EngineKind
from serving.errors import (
    DeadlineExceeded,
    Internal,
    InvalidArgument,
    NotFound,
    Overloaded,
    PayloadTooLarge,
    ServingError,
    Unavailable,
)
from serving.settings import Settings
from serving.statistics import FailureReason
from serving.triton import failures
from serving.triton.engine import TritonEngine
from serving.types import InferenceRequest, InferenceResponse, Tensor
from tests.serving.gateway.scripted import Script, ScriptedEngine, echo, response, serving


@dataclass(frozen=True, slots=True)
class Servers:
    """Scripted servers, and the engine that asks them."""

    servers: list[ScriptedEngine]
    engine: TritonEngine
    closing: list[AsyncExitStack]

    async def end(self, index: int) -> None:
        """That server is not there any more."""
        await self.closing[index].aclose()


def engine_of(*addresses: str) -> TritonEngine:
    return TritonEngine(
        Settings(engine=EngineKind.TRITON, triton_url=addresses, exit_timeout_secs=5)
    )


@asynccontextmanager
async def asking(*servers: ScriptedEngine) -> AsyncIterator[Servers]:
    async with AsyncExitStack() as stack:
        closing = [await stack.enter_async_context(AsyncExitStack()) for _ in servers]
        addresses = [
            await each.enter_async_context(serving(server))
            for each, server in zip(closing, servers, strict=True)
        ]
        engine = engine_of(*addresses)
        await engine.start()
        try:
            yield Servers(list(servers), engine, closing)
        finally:
            await engine.close()


def request(
    identifier: str, model: str = "m", deadline: int | None = None, **parameters: bool | int | str
) -> InferenceRequest:
    tensor = Tensor("x", Datatype.FP32, np.array([3], np.float32))
    return InferenceRequest(
        model, (tensor,), id=identifier, parameters=parameters, deadline=deadline
    )


def held(by: asyncio.Event) -> Script:
    async def answer(asked: InferenceRequest) -> AsyncGenerator[InferenceResponse, None]:
        await by.wait()
        yield response(asked)

    return answer


def failing(error: ServingError) -> Script:
    async def answer(asked: InferenceRequest) -> AsyncGenerator[InferenceResponse, None]:
        if asked.inputs:
            raise error
        yield response(asked)

    return answer


async def test_an_answer_is_what_the_server_gave() -> None:
    async with asking(ScriptedEngine(m=echo)) as asked:
        answer = await asked.engine.infer(request("a"))
    assert (answer.model, answer.version, answer.id) == ("m", "1", "a")
    assert [tensor.array.tolist() for tensor in answer.outputs] == [[3.0]]
    assert answer.timing is not None
    assert answer.timing.compute_infer > 0


async def first_begun(servers: list[ScriptedEngine]) -> ScriptedEngine:
    async def begun(server: ScriptedEngine) -> ScriptedEngine:
        await server.until(lambda: bool(server.begun))
        return server

    waits = [asyncio.create_task(begun(server)) for server in servers]
    [first], others = await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
    for wait in others:
        wait.cancel()
    return first.result()


async def test_the_server_with_the_least_in_hand_is_asked() -> None:
    gate = asyncio.Event()
    servers = [ScriptedEngine(m=echo, slow=held(gate)) for _ in range(2)]
    async with asking(*servers) as asked:
        slow = asyncio.create_task(asked.engine.infer(request("slow", "slow")))
        busy = await first_begun(servers)
        for number in range(4):
            await asked.engine.infer(request(str(number)))
        [idle] = [server for server in servers if server is not busy]
        assert busy.begun == ["slow"]
        assert idle.begun == ["0", "1", "2", "3"]
        gate.set()
        await slow


async def test_servers_without_anything_in_hand_take_turns() -> None:
    servers = [ScriptedEngine(m=echo) for _ in range(3)]
    async with asking(*servers) as asked:
        await asked.engine.infer(request("first"))  # which asks for the configuration, too
        before = [len(server.begun) for server in servers]
        for number in range(6):
            await asked.engine.infer(request(str(number)))
    after = [len(server.begun) for server in servers]
    assert [end - begin for begin, end in zip(before, after, strict=True)] == [2, 2, 2]


async def test_who_leaves_is_missed_by_nobody() -> None:
    servers = [ScriptedEngine(m=echo) for _ in range(2)]
    async with asking(*servers) as asked:
        for number in range(4):
            await asked.engine.infer(request(str(number)))
        assert servers[0].begun
        await asked.end(0)
        for letter in "abcd":
            await asked.engine.infer(request(letter))
    assert servers[1].begun[-4:] == ["a", "b", "c", "d"]


async def test_a_model_that_one_server_does_not_have_is_asked_of_another() -> None:
    servers = ScriptedEngine(), ScriptedEngine(m=echo)
    async with asking(*servers) as asked:
        for number in range(2):
            await asked.engine.infer(request(str(number)))
        with pytest.raises(NotFound, match="Request for unknown model: 'other' is not found"):
            await asked.engine.infer(request("a", "other"))
    assert servers[1].begun == ["0", "1"]


async def test_a_version_that_one_server_does_not_serve_yet_is_asked_of_another() -> None:
    told = "Request for unknown model: 'm' version 1 is not at ready state"
    servers = ScriptedEngine(m=failing(Unavailable(told))), ScriptedEngine(m=echo)
    async with asking(*servers) as asked:
        for number in range(2):
            await asked.engine.infer(request(str(number)))
    assert servers[1].begun == ["0", "1"]
    async with asking(servers[0]) as asked:
        with pytest.raises(Unavailable, match=told):
            await asked.engine.infer(request("alone"))


@pytest.mark.parametrize(
    "error",
    [
        InvalidArgument("wrong"),
        Unavailable("perhaps it ran"),
        Overloaded("Exceeds maximum queue size of 1 requests", 2.5),
        Overloaded("not before the deadline", 1.5),
        DeadlineExceeded("too late"),
    ],
    ids=str,
)
async def test_what_may_have_run_is_not_asked_of_another(error: ServingError) -> None:
    servers = ScriptedEngine(m=failing(error)), ScriptedEngine(m=failing(error))
    async with asking(*servers) as asked:
        with pytest.raises(type(error), match=str(error)):
            await asked.engine.infer(request("a"))
        assert len(servers[0].begun) + len(servers[1].begun) == 1


async def test_a_server_that_fails_whatever_it_is_asked_does_not_draw_the_requests() -> None:
    broken = ScriptedEngine(m=failing(Internal("an illegal memory access")), other=echo)
    async with asking(broken, ScriptedEngine(m=echo, other=echo)) as asked:
        with suppress(Internal):
            await asked.engine.infer(request("first"))  # which asks for the configuration, too
        failures = 0
        for number in range(20):
            try:
                await asked.engine.infer(request(str(number)))
            except Internal:
                failures += 1
        # So many in a row say that it is no chance.
        assert failures <= 3
        before = len(broken.begun)
        for letter in "abcdef":
            await asked.engine.infer(request(letter, "other"))
    # Another model it executes as well as ever.
    assert len(broken.begun) > before


async def test_where_all_servers_fail_a_model_they_are_asked_all_the_same() -> None:
    servers = [ScriptedEngine(m=failing(Internal("out of memory"))) for _ in range(2)]
    async with asking(*servers) as asked:
        for number in range(12):
            with pytest.raises(Internal, match="out of memory"):
                await asked.engine.infer(request(str(number)))
    assert len(servers[0].begun) == len(servers[1].begun) == 6


@pytest.mark.parametrize(
    ("told", "expected"),
    [((), PayloadTooLarge), ((("grpc-retry-pushback-ms", "0"),), Overloaded)],
)
def test_who_may_try_again_at_once_has_not_sent_too_much(
    told: tuple[tuple[str, str], ...], expected: type[ServingError]
) -> None:
    exhausted = grpc.StatusCode.RESOURCE_EXHAUSTED
    trailer = grpc.aio.Metadata(*told)
    failure = grpc.aio.AioRpcError(exhausted, grpc.aio.Metadata(), trailer, "not now")
    assert type(failures.of_call(failure)) is expected


async def test_a_server_says_for_how_long_it_is_overloaded() -> None:
    async with asking(ScriptedEngine(m=failing(Overloaded("not now", 1.5)))) as asked:
        with pytest.raises(Overloaded) as caught:
            await asked.engine.infer(request("a"))
    assert caught.value.retry_after == 1.5


async def test_who_goes_away_has_the_server_stop() -> None:
    server = ScriptedEngine(m=held(asyncio.Event()))
    async with asking(server) as asked:
        task = asyncio.create_task(asked.engine.infer(request("a")))
        await server.until(lambda: server.begun == ["a"])
        task.cancel()
        await server.until(lambda: server.ended == ["a"])
        with pytest.raises(asyncio.CancelledError):
            await task


@pytest.mark.parametrize("model", ["m", "many", "unknown"])
async def test_what_failed_goes_without_the_garbage_collector(model: str) -> None:
    fails = failing(Internal("out of memory"))
    async with asking(ScriptedEngine(["many"], m=fails, many=fails)) as asked:
        sent = request("a", model)
        seen = weakref.ref(sent.inputs[0].array)
        gc.disable()
        try:
            with suppress(Internal, NotFound):
                async with aclosing(asked.engine.stream(sent)) as responses:
                    assert [one async for one in responses] == []
            del sent, responses
            assert seen() is None
        finally:
            gc.enable()


async def test_a_deadline_is_the_servers_too() -> None:
    server = ScriptedEngine(m=held(asyncio.Event()))
    async with asking(server) as asked:
        with pytest.raises(DeadlineExceeded):
            await asked.engine.infer(request("a", deadline=time.monotonic_ns() + 500_000_000))
        await server.until(lambda: server.ended == server.begun)


async def test_a_deadline_that_has_passed_is_told_without_asking() -> None:
    server = ScriptedEngine(m=echo)
    async with asking(server) as asked:
        with pytest.raises(DeadlineExceeded):
            await asked.engine.infer(request("a", deadline=time.monotonic_ns()))
    assert server.begun == []


async def test_a_sequence_stays_where_it_began_and_its_steps_wait_for_each_other() -> None:
    servers = [ScriptedEngine(m=echo) for _ in range(2)]
    async with asking(*servers) as asked:

        async def step(
            identifier: str, sequence: int | str, **more: bool | int | str
        ) -> InferenceResponse:
            asking = request(identifier, "m", None, sequence_id=sequence, **more)
            return await asked.engine.infer(asking)

        await asyncio.gather(
            step("a0", 7, sequence_start=True), step("b0", "b", sequence_start=True)
        )
        await asyncio.gather(*(step(f"a{number}", 7) for number in range(1, 5)), step("b1", "b"))
        await asyncio.gather(step("a5", 7, sequence_end=True), step("b2", "b", sequence_end=True))
    begun = [[one for one in server.begun if one.startswith(s)] for server in servers for s in "ab"]
    assert sorted(filter(None, begun)) == [["a0", "a1", "a2", "a3", "a4", "a5"], ["b0", "b1", "b2"]]


async def test_a_decoupled_model_gives_its_responses_until_nobody_wants_more() -> None:
    async def count(asked: InferenceRequest) -> AsyncGenerator[InferenceResponse, None]:
        for number in range(1000):
            yield response(asked, number)
        await asyncio.Event().wait()

    server = ScriptedEngine(("m",), m=count)
    async with asking(server) as asked:
        async with aclosing(asked.engine.stream(request("a"))) as responses:
            async for one in responses:
                if one.outputs[0].array[0] == 999:
                    break
        await server.until(lambda: server.ended == ["a"])


async def test_a_decoupled_model_may_give_nothing() -> None:
    async def nothing(asked: InferenceRequest) -> AsyncGenerator[InferenceResponse, None]:
        for _ in range(0):
            yield response(asked)

    async with asking(ScriptedEngine(("m",), m=nothing)) as asked:
        assert [one async for one in asked.engine.stream(request("a"))] == []
        # It was answered all the same, by the version that the server chose.
        [counted] = await asked.engine.counted()
    assert (counted.model, counted.version) == ("m", "1")
    assert (counted.success.count, counted.inference_count, counted.execution_count) == (1, 1, 1)


async def test_an_error_behind_responses_is_told_once_and_asked_of_nobody_else() -> None:
    async def broken(asked: InferenceRequest) -> AsyncGenerator[InferenceResponse, None]:
        yield response(asked, 1)
        raise NotFound("Request for unknown model: a part of it")

    servers = [ScriptedEngine(("m",), m=broken) for _ in range(2)]
    async with asking(*servers) as asked:
        responses = asked.engine.stream(request("a"))
        assert (await anext(responses)).outputs[0].array[0] == 1
        with pytest.raises(NotFound, match="a part of it"):
            await anext(responses)
    assert len(servers[0].begun) + len(servers[1].begun) == 1


async def test_other_models_stream_their_one_response_as_the_last() -> None:
    async with asking(ScriptedEngine(m=echo)) as asked:
        [one] = [one async for one in asked.engine.stream(request("a"))]
    assert one.is_last


async def test_what_went_through_is_counted_and_names_that_are_none_are_not() -> None:
    async with asking(ScriptedEngine(m=echo)) as asked:
        await asked.engine.infer(request("a"))
        for model in ("nobody", "no one"):
            with pytest.raises(NotFound):
                await asked.engine.infer(request("a", model))
        with pytest.raises(DeadlineExceeded):
            await asked.engine.infer(request("a", deadline=time.monotonic_ns()))
        [counted] = await asked.engine.counted()
    assert (counted.model, counted.version) == ("m", "1")
    assert (counted.success.count, counted.execution_count) == (1, 1)
    assert counted.failures[FailureReason.REJECTED] == 1


async def test_a_server_that_comes_is_found_and_whoever_watches_is_told() -> None:
    [port] = free_ports(1)
    engine = engine_of(f"127.0.0.1:{port}")
    changed = asyncio.Event()
    engine.watch(changed.set)
    await engine.start()
    try:
        assert not await engine.ready()
        with pytest.raises(Unavailable) as caught:
            await engine.infer(request("a"))
        assert caught.value.retry_after == 1.0
        changed.clear()
        async with serving(ScriptedEngine(m=echo), port):
            await changed.wait()
            assert await engine.ready()
            await engine.infer(request("a"))
    finally:
        await engine.close()
    assert not await engine.ready()


async def test_a_name_that_is_unknown_is_a_server_that_is_not_there() -> None:
    engine = engine_of("no-such-host.invalid:8001")
    await engine.start()
    try:
        assert not await engine.ready()
        with pytest.raises(Unavailable):
            await engine.index()
    finally:
        await engine.close()


async def test_a_name_stands_for_one_family_of_its_addresses() -> None:
    server = ScriptedEngine(m=echo)
    async with serving(server) as address:
        engine = engine_of(f"localhost:{address.rpartition(':')[2]}", address)
        await engine.start()
        try:
            await engine.infer(request("a"))
        finally:
            await engine.close()
    assert server.begun == ["a"]
