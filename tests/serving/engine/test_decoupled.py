"""Decoupled models: any number of responses to a request, each as soon as it is made."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Generator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from serving.config import ModelConfig, Source, complete, parse, resolve
from serving.dtypes import Datatype
from serving.engine.assemble import assemble
from serving.engine.decoupled import DecoupledVersion
from serving.engine.servable import Opened, Servable
from serving.errors import (
    Decoupled,
    Internal,
    InvalidArgument,
    LoadFailed,
    Overloaded,
    Unavailable,
)
from serving.statistics import MAX_PLACES, FailureReason
from serving.types import (
    Array,
    InferenceRequest,
    InferenceResponse,
    RequestedOutput,
    Signature,
    Tensor,
    TensorSpec,
)
from tests.serving.engine.models import FunctionSession, double, let_others_run

CONFIG = """
backend: "repeat" max_batch_size: 0
input { name: "x" data_type: TYPE_FP32 dims: [ -1 ] }
output { name: "y" data_type: TYPE_FP32 dims: [ 1 ] }
model_transaction_policy { decoupled: true }
"""
GRAPH = Signature((TensorSpec("x", Datatype.FP32, (-1,)),), (TensorSpec("y", Datatype.FP32, (1,)),))

Script = Callable[[Array], Generator[float, None, None]]


@dataclass
class ScriptedSession:
    """A model whose responses are what its script yields."""

    script: Script
    signature: Signature = GRAPH
    closed: bool = False
    steady: bool = False
    left: threading.Event = field(default_factory=threading.Event)

    def stream(
        self, inputs: Mapping[str, Array], outputs: Sequence[str]
    ) -> Generator[list[Array], None, None]:
        try:
            for value in self.script(inputs["x"]):
                yield [np.array([value], np.float32) for _ in outputs]
        finally:
            self.left.set()

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> list[Array]:
        raise AssertionError("a decoupled model is not asked for one response")

    def close(self) -> None:
        self.closed = True


def each(x: Array) -> Generator[float, None, None]:
    yield from x


def forever(x: Array) -> Generator[float, None, None]:
    while True:
        yield 0.0


def breaks(x: Array) -> Generator[float, None, None]:
    yield from x
    raise Internal("it broke")


def configured(text: str = CONFIG, signature: Signature = GRAPH) -> ModelConfig:
    source = Source("m", text)
    return complete(resolve(parse(text, "m"), "m", source), signature, source)


def find(model: str, version: str) -> Servable:
    raise AssertionError("there are no other models")


@asynccontextmanager
async def served(
    script: Script, text: str = CONFIG, max_queue: int = 16
) -> AsyncIterator[tuple[Servable, ScriptedSession]]:
    session = ScriptedSession(script)
    servable = assemble(Opened(configured(text), "1", [session]), max_queue, find)
    try:
        yield servable, session
    finally:
        await servable.close()


def request(*elements: float, **fields: Any) -> InferenceRequest:
    tensor = Tensor("x", Datatype.FP32, np.array(elements, np.float32))
    return InferenceRequest("m", (tensor,), **fields)


async def all_of(servable: Servable, asked: InferenceRequest) -> list[InferenceResponse]:
    async with aclosing(servable.stream(asked)) as responses:
        return [response async for response in responses]


def values(responses: Sequence[InferenceResponse]) -> list[float]:
    return [float(response.outputs[0].array[0]) for response in responses]


@pytest.mark.parametrize("count", [0, 1, 3])
async def test_a_request_gets_as_many_responses_as_there_are(count: int) -> None:
    async with served(each) as (servable, _):
        responses = await all_of(servable, request(*range(count), id="a"))

    assert values(responses) == list(range(count))
    assert all(one.id == "a" and one.version == "1" for one in responses)
    assert not any(one.is_last for one in responses)


async def test_a_response_comes_before_the_next_one_is_made() -> None:
    may_go_on = threading.Event()

    def waits(x: Array) -> Generator[float, None, None]:
        yield 1.0
        assert may_go_on.wait(30)
        yield 2.0

    async with served(waits) as (servable, _), aclosing(servable.stream(request(0))) as responses:
        first = await anext(responses)
        may_go_on.set()
        rest = [response async for response in responses]

    assert values([first, *rest]) == [1.0, 2.0]


async def test_one_response_cannot_be_asked_for() -> None:
    async with served(each) as (servable, _):
        with pytest.raises(Decoupled):
            await servable.infer(request(1))


async def test_an_error_comes_behind_the_responses_that_were_made_before(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with (
        served(breaks) as (servable, _),
        aclosing(servable.stream(request(1, 2))) as responses,
    ):
        got = [await anext(responses), await anext(responses)]
        with pytest.raises(Internal, match="it broke"):
            await anext(responses)

    assert values(got) == [1.0, 2.0]
    assert servable.statistics.failures[FailureReason.BACKEND] == 1
    assert "version 1: it broke" in caplog.text
    assert servable.statistics.responses["2"].fail.count == 1
    assert servable.statistics.success.count == 0


async def test_requests_on_one_instance_follow_each_other() -> None:
    async with served(each) as (servable, _):
        answers = await asyncio.gather(*(all_of(servable, request(n, n)) for n in range(5)))

    assert [values(one) for one in answers] == [[n, n] for n in range(5)]


async def test_whoever_closes_the_stream_ends_the_model_between_two_responses() -> None:
    async with served(forever) as (servable, session):
        async with aclosing(servable.stream(request(1))) as responses:
            await anext(responses)
        assert await asyncio.to_thread(session.left.wait, 30)

    assert servable.statistics.failures[FailureReason.CANCELED] == 1
    assert servable.statistics.responses["1"].cancel.count == 1


async def test_a_cancelled_reader_ends_the_model() -> None:
    begun = asyncio.Event()

    async def read(servable: Servable) -> None:
        async with aclosing(servable.stream(request(1))) as responses:
            async for _ in responses:
                begun.set()

    async with served(forever) as (servable, session):
        reading = asyncio.create_task(read(servable))
        await begun.wait()
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        assert await asyncio.to_thread(session.left.wait, 30)

    assert servable.statistics.failures[FailureReason.CANCELED] == 1


async def test_a_model_is_not_far_ahead_of_a_reader_who_takes_his_time() -> None:
    made = []

    def counts(x: Array) -> Generator[float, None, None]:
        for number in range(2000):
            made.append(number)
            yield number

    async with (
        served(counts) as (servable, _),
        aclosing(servable.stream(request(1))) as responses,
    ):
        await anext(responses)
        await let_others_run()
        ahead = len(made)
        rest = [response async for response in responses]

    assert ahead < 300
    assert len(rest) == 1999


async def test_a_request_that_waits_is_cancelled_without_having_run() -> None:
    may_go_on = threading.Event()

    def waits(x: Array) -> Generator[float, None, None]:
        assert may_go_on.wait(30)
        yield from x

    async with served(waits) as (servable, _):
        running = asyncio.create_task(all_of(servable, request(1)))
        await let_others_run()
        waiting = asyncio.create_task(all_of(servable, request(2)))
        await let_others_run()
        assert servable.statistics.pending == 1
        waiting.cancel()
        await let_others_run()
        assert servable.statistics.pending == 0
        may_go_on.set()
        assert values(await running) == [1.0]


async def test_a_full_queue_refuses() -> None:
    may_go_on = threading.Event()

    def waits(x: Array) -> Generator[float, None, None]:
        assert may_go_on.wait(30)
        yield from x

    async with served(waits, max_queue=1) as (servable, _):
        tasks = []
        for number in range(2):
            tasks.append(asyncio.create_task(all_of(servable, request(number))))
            await let_others_run()
        with pytest.raises(Overloaded, match="id: a"):
            await all_of(servable, request(3, id="a"))
        may_go_on.set()
        await asyncio.gather(*tasks)

    assert servable.statistics.failures[FailureReason.REJECTED] == 1


async def test_what_was_accepted_is_answered_before_the_model_is_closed() -> None:
    async with served(each) as (servable, session):
        asked = asyncio.create_task(all_of(servable, request(1, 2)))
        await let_others_run()
        await servable.close()
        assert values(await asked) == [1.0, 2.0]
        with pytest.raises(Unavailable):
            await all_of(servable, request(1))
    assert session.closed


async def test_a_request_that_does_not_fit_is_refused_and_counted() -> None:
    async with served(each) as (servable, _):
        with pytest.raises(InvalidArgument):
            await all_of(servable, InferenceRequest("m", ()))

    assert servable.statistics.failures[FailureReason.OTHER] == 1


async def test_each_place_among_the_responses_is_counted_and_the_end_as_an_empty_one() -> None:
    async with served(each) as (servable, _):
        await all_of(servable, request(1, 2))
        await all_of(servable, request(1))
    statistics = servable.statistics

    counts = {
        place: (one.success.count, one.empty_response.count, one.compute_infer.count)
        for place, one in statistics.responses.items()
    }
    assert counts == {"0": (2, 0, 2), "1": (1, 1, 2), "2": (0, 1, 1)}
    assert (statistics.success.count, statistics.inference_count) == (2, 2)
    assert statistics.execution_count == 2


async def test_far_places_are_counted_together() -> None:
    async with served(each) as (servable, _):
        await all_of(servable, request(*range(MAX_PLACES + 5)))

    assert len(servable.statistics.responses) == MAX_PLACES
    assert servable.statistics.responses[str(MAX_PLACES - 1)].success.count == 6


async def test_classes_may_be_asked_of_each_response() -> None:
    wanted = (RequestedOutput("y", classification=1),)
    async with served(each) as (servable, _):
        responses = await all_of(servable, request(5, 6, outputs=wanted))

    assert [one.outputs[0].array.tolist() for one in responses] == [
        [b"5.000000:0"],
        [b"6.000000:0"],
    ]


@pytest.mark.parametrize(
    ("more", "inputs"),
    [
        ("sequence_batching { }", ()),
        (
            'batch_input { kind: BATCH_ELEMENT_COUNT target_name: "n" data_type: TYPE_FP32 '
            'source_input: "x" }',
            (TensorSpec("n", Datatype.FP32, (-1,)),),
        ),
    ],
)
async def test_what_does_not_go_with_streams_is_refused_with_the_cure(
    more: str, inputs: tuple[TensorSpec, ...]
) -> None:
    signature = Signature((*GRAPH.inputs, *inputs), GRAPH.outputs)
    opened = Opened(configured(CONFIG + more, signature), "1", [ScriptedSession(each)])

    with pytest.raises(LoadFailed, match=r"m:5: .*leave out sequence_batching"):
        DecoupledVersion(opened, 16)


async def test_an_order_that_several_instances_would_not_keep_is_refused() -> None:
    config = configured(CONFIG + "dynamic_batching { preserve_ordering: true }")

    with pytest.raises(LoadFailed, match=r"m:6: several instances of model 'm', .*of count 1"):
        DecoupledVersion(Opened(config, "1", [ScriptedSession(each)] * 2), 16)


async def test_a_session_that_gives_one_response_gives_it_over_a_stream_only() -> None:
    text = CONFIG.replace('"repeat"', '"identity"')
    signature = Signature(GRAPH.inputs, (TensorSpec("y", Datatype.FP32, (-1,)),))
    session = FunctionSession(signature, double)
    config = configured(text.replace("dims: [ 1 ]", "dims: [ -1 ]"), signature)
    servable = assemble(Opened(config, "1", [session]), 16, find)
    try:
        [response] = await all_of(servable, request(3))
        with pytest.raises(Decoupled):
            await servable.infer(request(3))
    finally:
        await servable.close()

    assert values([response]) == [6.0]
    assert response.is_last
