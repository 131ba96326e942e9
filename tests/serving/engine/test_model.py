"""One version of a model: what it makes of a request, and what it counts."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from serving.config import Source, complete, parse, resolve
from serving.dtypes import Datatype
from serving.engine.model import ModelVersion
from serving.engine.scheduling import schedule
from serving.engine.servable import Opened
from serving.errors import InvalidArgument, Overloaded, ServingError, Unavailable
from serving.statistics import FailureReason
from serving.types import (
    Array,
    InferenceRequest,
    InferenceResponse,
    RequestedOutput,
    Signature,
    Tensor,
    TensorSpec,
)

PLAIN = """
backend: "identity" max_batch_size: 4
input { name: "x" data_type: TYPE_FP32 dims: [2] }
output { name: "y" data_type: TYPE_FP32 dims: [2] }
dynamic_batching { }
"""
GRAPH = Signature(
    (TensorSpec("x", Datatype.FP32, (-1, 2)),), (TensorSpec("y", Datatype.FP32, (-1, 2)),)
)


@dataclass
class FunctionSession:
    """A graph whose output is a function of its input."""

    signature: Signature
    function: Callable[[Array], Array]
    closed: bool = False
    steady: bool = False

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> list[Array]:
        [array] = inputs.values()
        return [self.function(array) for _ in outputs]

    def close(self) -> None:
        self.closed = True


@asynccontextmanager
async def served(
    function: Callable[[Array], Array],
    text: str = PLAIN,
    signature: Signature = GRAPH,
    instances: int = 1,
    labels: Mapping[str, tuple[str, ...]] | None = None,
) -> AsyncIterator[ModelVersion]:
    """A version of that configuration and graph, closed in the end."""
    source = Source("config.pbtxt", text)
    config = complete(resolve(parse(text, source.name), "m", source), signature, source)
    sessions = [FunctionSession(signature, function) for _ in range(instances)]
    opened = Opened(config, "1", sessions, labels or {})
    version = ModelVersion(opened, schedule(opened, 16))
    try:
        yield version
    finally:
        await version.close()
        assert all(session.closed for session in sessions)


def request(values: Any, **options: Any) -> InferenceRequest:
    tensor = Tensor("x", Datatype.FP32, np.array(values, np.float32))
    return InferenceRequest("m", (tensor,), **options)


def values(response: InferenceResponse) -> Any:
    return response.outputs[0].array.tolist()


async def test_an_answer_has_the_requests_id_and_the_version_that_ran() -> None:
    async with served(lambda x: 2 * x) as version:
        response = await version.infer(request([[1, 2], [3, 4]], id="r7"))
    assert (response.model, response.version, response.id) == ("m", "1", "r7")
    assert [(tensor.name, tensor.datatype) for tensor in response.outputs] == [("y", Datatype.FP32)]
    assert values(response) == [[2, 4], [6, 8]]
    assert response.timing is not None
    assert response.timing.batch_rows == 2


async def test_requests_that_come_together_share_a_batch_and_get_their_own_rows() -> None:
    shapes = []

    def function(x: Array) -> Array:
        shapes.append(x.shape)
        return x + 1

    async with served(function) as version:
        answers = await asyncio.gather(
            *(version.infer(request([[row, row]] * rows)) for row, rows in ((1, 1), (5, 2), (9, 1)))
        )
    assert list(map(values, answers)) == [[[2, 2]], [[6, 6], [6, 6]], [[10, 10]]]
    assert shapes == [(4, 2)]
    statistics = version.statistics
    assert (statistics.inference_count, statistics.execution_count) == (4, 1)
    assert statistics.success.count == 3
    assert list(statistics.batches) == [4]


RESHAPED = """
backend: "identity" max_batch_size: 4
input { name: "x" data_type: TYPE_FP32 dims: [6] reshape { shape: [2, 3] } }
output { name: "y" data_type: TYPE_FP32 dims: [3, 2] reshape { shape: [6] } }
"""
RESHAPED_GRAPH = Signature(
    (TensorSpec("x", Datatype.FP32, (-1, 2, 3)),), (TensorSpec("y", Datatype.FP32, (-1, 6)),)
)


async def test_a_reshape_stands_between_the_client_and_the_graph() -> None:
    def function(x: Array) -> Array:
        assert x.shape == (2, 2, 3)
        return x.reshape(2, 6)

    rows = np.arange(12).reshape(2, 6)
    async with served(function, RESHAPED, RESHAPED_GRAPH) as version:
        response = await version.infer(request(rows))
    assert values(response) == rows.reshape(2, 3, 2).tolist()


SCALAR = """
backend: "identity" max_batch_size: 4
input { name: "x" data_type: TYPE_FP32 dims: [1] reshape { } }
output { name: "y" data_type: TYPE_FP32 dims: [1] reshape { } }
"""
SCALAR_GRAPH = Signature(
    (TensorSpec("x", Datatype.FP32, (-1,)),), (TensorSpec("y", Datatype.FP32, (-1,)),)
)


async def test_a_graph_without_dimensions_is_a_row_of_one_to_clients() -> None:
    def function(x: Array) -> Array:
        assert x.shape == (3,)
        return -x

    async with served(function, SCALAR, SCALAR_GRAPH) as version:
        response = await version.infer(request([[1], [2], [3]]))
    assert values(response) == [[-1], [-2], [-3]]


UNBATCHED = """
backend: "identity"
input { name: "x" data_type: TYPE_FP32 dims: [-1] }
output { name: "y" data_type: TYPE_FP32 dims: [-1] }
"""
UNBATCHED_GRAPH = Signature(
    (TensorSpec("x", Datatype.FP32, (-1,)),), (TensorSpec("y", Datatype.FP32, (-1,)),)
)


async def test_a_model_that_does_not_batch_runs_each_request_by_itself() -> None:
    async with served(np.cumsum, UNBATCHED, UNBATCHED_GRAPH) as version:
        answers = await asyncio.gather(
            version.infer(request([1, 1, 1])), version.infer(request([5, 5]))
        )
    assert list(map(values, answers)) == [[1, 2, 3], [5, 10]]
    statistics = version.statistics
    assert (statistics.inference_count, statistics.execution_count) == (2, 2)


async def test_classification_takes_the_labels_of_its_output() -> None:
    async with served(lambda x: x, labels={"y": ("no", "yes")}) as version:
        response = await version.infer(
            request([[0.25, 0.75]], outputs=(RequestedOutput("y", classification=1),))
        )
    [tensor] = response.outputs
    assert tensor.datatype is Datatype.BYTES
    assert tensor.array.tolist() == [[b"0.750000:1:yes"]]


async def test_a_failed_batch_fails_its_requests_and_no_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def function(x: Array) -> Array:
        if (x == 13).any():
            raise ValueError("thirteen")
        return x

    async with served(function) as version:
        outcomes = await asyncio.gather(
            # Two that fill a batch, and two that fill the next.
            *(version.infer(request([[row, row]] * 2)) for row in (1, 13, 3, 4)),
            return_exceptions=True,
        )
        later = await version.infer(request([[7, 7]]))
    failed = outcomes[:2]
    for error in failed:
        assert isinstance(error, ServingError)
        assert "thirteen" in error.message
    assert failed[0] is not failed[1]
    good = [outcome for outcome in outcomes if isinstance(outcome, InferenceResponse)]
    assert list(map(values, good)) == [[[3, 3]] * 2, [[4, 4]] * 2]
    assert values(later) == [[7, 7]]
    statistics = version.statistics
    assert statistics.failures[FailureReason.BACKEND] == 2
    assert statistics.fail.count == 2
    assert statistics.success.count == 3
    told = "m version 1: inference failed: ValueError('thirteen')"
    assert told in caplog.messages
    # A failed execution is none that inferred anything.
    assert (statistics.inference_count, statistics.execution_count) == (5, 2)


async def test_a_graph_that_gives_other_rows_than_it_took_is_a_failure() -> None:
    async with served(lambda x: x[:1]) as version:
        with pytest.raises(ServingError, match=r"expected 2 rows, got 1"):
            await version.infer(request([[1, 1], [2, 2]]))


async def test_a_request_that_does_not_fit_is_counted_and_runs_nowhere() -> None:
    async with served(lambda x: x) as version:
        with pytest.raises(InvalidArgument):
            await version.infer(request([[1, 2, 3]]))
    statistics = version.statistics
    assert statistics.failures[FailureReason.OTHER] == 1
    assert statistics.execution_count == 0


class Gate:
    """A function that does not return before it is told to."""

    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._open = threading.Event()

    def __call__(self, x: Array) -> Array:
        self._loop.call_soon_threadsafe(self.entered.set)
        assert self._open.wait(30)
        return x

    def open(self) -> None:
        self._open.set()


async def test_whoever_is_cancelled_while_waiting_never_runs_and_is_counted_so() -> None:
    gate = Gate()
    async with served(gate) as version:
        running = asyncio.create_task(version.infer(request([[1, 1]] * 4)))
        await gate.entered.wait()
        waiting = [asyncio.create_task(version.infer(request([[row, row]]))) for row in (2, 3)]
        while version.statistics.pending < 2:
            await asyncio.wait(waiting, timeout=0)
        waiting[0].cancel()
        await asyncio.wait(waiting[:1])
        assert version.statistics.pending == 1
        gate.open()
        assert values(await waiting[1]) == [[3, 3]]
        await running
    statistics = version.statistics
    assert statistics.failures[FailureReason.CANCELED] == 1
    assert (statistics.inference_count, statistics.execution_count) == (5, 2)


async def test_a_full_queue_is_counted_as_a_rejection() -> None:
    gate = Gate()
    text = PLAIN.replace("{ }", "{ default_queue_policy { max_queue_size: 1 } }")
    async with served(gate, text) as version:
        running = asyncio.create_task(version.infer(request([[1, 1]] * 4)))
        await gate.entered.wait()
        waiting = asyncio.create_task(version.infer(request([[2, 2]])))
        while version.statistics.pending < 1:
            await asyncio.wait([waiting], timeout=0)
        with pytest.raises(Overloaded, match="Exceeds maximum queue size"):
            await version.infer(request([[3, 3]]))
        gate.open()
        await asyncio.gather(running, waiting)
    assert version.statistics.failures[FailureReason.REJECTED] == 1


async def test_instances_run_at_the_same_time() -> None:
    gates = threading.Barrier(2, timeout=30)

    def function(x: Array) -> Array:
        gates.wait()  # Would never pass if one waited for the other.
        return x

    async with served(function, instances=2) as version:
        answers = await asyncio.gather(
            *(version.infer(request([[row, row]] * 4)) for row in (1, 2))
        )
    assert list(map(values, answers)) == [[[1, 1]] * 4, [[2, 2]] * 4]


async def test_closing_answers_what_was_accepted_and_refuses_the_rest() -> None:
    gate = Gate()
    async with served(gate) as version:
        running = asyncio.create_task(version.infer(request([[1, 1]] * 4)))
        await gate.entered.wait()
        waiting = asyncio.create_task(version.infer(request([[2, 2]])))
        while version.statistics.pending < 1:
            await asyncio.wait([waiting], timeout=0)
        closing = asyncio.create_task(version.close())
        await asyncio.wait([closing], timeout=0)
        with pytest.raises(Unavailable):
            await version.infer(request([[3, 3]]))
        gate.open()
        await closing
        assert values(await running) == [[1, 1]] * 4
        assert values(await waiting) == [[2, 2]]
