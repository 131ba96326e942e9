"""Requests of more rows than an execution takes, where the configuration has them split."""

import asyncio

import numpy as np
import pytest

from serving.config import Source, complete, parse, resolve
from serving.dtypes import Datatype
from serving.errors import Internal, InvalidArgument, LoadFailed, Overloaded
from serving.statistics import FailureReason
from serving.types import Array, InferenceRequest, RequestedOutput, Signature, TensorSpec
from tests.serving.engine.models import Gate, let_others_run
from tests.serving.engine.test_model import GRAPH, PLAIN, request, served, values

SPLITS = PLAIN + 'parameters { key: "split_large_requests" value { string_value: "true" } }\n'
# Of each other's rows, parts would make larger batches than are asserted here.
ALONE = SPLITS.replace("dynamic_batching { }", "")


def numbered(rows: int) -> list[list[float]]:
    return [[row, row + 0.5] for row in range(rows)]


def asking(rows: int, **options: object) -> InferenceRequest:
    return request(numbered(rows), **options)


async def test_a_large_request_runs_in_parts_and_is_answered_in_order() -> None:
    shapes = []

    def function(x: Array) -> Array:
        shapes.append(x.shape)
        return 2 * x

    async with served(function, SPLITS) as version:
        response = await version.infer(asking(10, id="r7"))
    assert values(response) == (2 * np.array(numbered(10))).tolist()
    assert shapes == [(4, 2), (4, 2), (2, 2)]
    assert response.id == "r7"


async def test_it_counts_as_one_request_of_all_its_rows_and_as_many_executions_as_ran() -> None:
    async with served(lambda x: x, SPLITS) as version:
        response = await version.infer(asking(10))
        statistics = version.statistics
    assert (statistics.success.count, statistics.inference_count) == (1, 10)
    assert statistics.execution_count == 3
    assert {rows: one.compute_infer.count for rows, one in statistics.batches.items()} == {
        4: 2,
        2: 1,
    }
    assert response.timing is not None
    assert response.timing.batch_rows == 4
    spent = sum(one.compute_infer.ns for one in statistics.batches.values())
    assert response.timing.compute_infer == statistics.compute_infer.ns == spent


async def test_parts_run_side_by_side_on_several_instances() -> None:
    meeting = Gate()
    running = asyncio.Queue[int]()
    loop = asyncio.get_running_loop()

    def function(x: Array) -> Array:
        loop.call_soon_threadsafe(running.put_nowait, len(x))
        return meeting(x)

    async with served(function, SPLITS, instances=2) as version:
        task = asyncio.ensure_future(version.infer(asking(8)))
        # Neither is over when the other begins.
        assert [await running.get() for _ in range(2)] == [4, 4]
        meeting.open()
        assert values(await task) == (2 * np.array(numbered(8))).tolist()


async def test_a_part_that_fails_fails_the_request_and_the_others_never_run() -> None:
    gate, ran = Gate(), []

    def function(x: Array) -> Array:
        ran.append(float(x[0, 0]))
        if len(ran) > 1:
            return gate(x)
        raise Internal("out of memory")

    async with served(function, ALONE) as version:
        with pytest.raises(Internal, match=r"^out of memory$"):
            await version.infer(asking(4 * 8))
        assert version.statistics.pending == 0
        gate.open()
        statistics = version.statistics
    # The second one may have been taken up while the first one's failure was told.
    assert ran in ([0], [0, 4])
    assert statistics.failures[FailureReason.BACKEND] == 1
    assert (statistics.success.count, statistics.inference_count) == (0, 0)


async def test_whoever_goes_takes_all_parts_along() -> None:
    gate = Gate()
    async with served(gate, ALONE) as version:
        task = asyncio.ensure_future(version.infer(asking(40)))
        await gate.arrived.wait()
        assert version.statistics.pending == 9
        task.cancel()
        await let_others_run()
        assert version.statistics.pending == 0
        assert version.statistics.failures[FailureReason.CANCELED] == 1
        gate.open()


async def test_a_queue_without_room_for_all_parts_refuses_the_request() -> None:
    gate = Gate()
    async with served(gate, ALONE) as version:
        first = asyncio.ensure_future(version.infer(asking(4)))
        await gate.arrived.wait()
        waiting = asyncio.ensure_future(version.infer(asking(4 * 10)))
        await let_others_run()
        with pytest.raises(Overloaded):
            await version.infer(asking(4 * 8))
        # None of its parts has stayed.
        assert version.statistics.pending == 10
        gate.open()
        await asyncio.gather(first, waiting)


async def test_more_parts_than_may_ever_wait_are_refused_by_name() -> None:
    async with served(lambda x: x, SPLITS) as version:
        with pytest.raises(InvalidArgument, match=r"must be <= 64 for 'm', got 65 rows"):
            await version.infer(asking(65))


async def test_requests_that_fit_are_left_whole_and_share_batches_with_the_last_part() -> None:
    gate, shapes = Gate(), []

    def function(x: Array) -> Array:
        shapes.append(x.shape)
        return gate(x)

    async with served(function, SPLITS) as version:
        running = asyncio.ensure_future(version.infer(asking(1)))
        await gate.arrived.wait()
        large = asyncio.ensure_future(version.infer(asking(6)))
        await let_others_run()
        small = asyncio.ensure_future(version.infer(asking(2)))
        await let_others_run()
        gate.open()
        for rows, task in ((1, running), (6, large), (2, small)):
            assert values(await task) == (2 * np.array(numbered(rows))).tolist()
    assert shapes == [(1, 2), (4, 2), (4, 2)]


async def test_classes_are_those_of_each_row() -> None:
    async with served(lambda x: x, SPLITS) as version:
        wanted = (RequestedOutput("y", classification=1),)
        response = await version.infer(asking(6, outputs=wanted))
    assert values(response) == [[f"{row + 0.5:.6f}:1".encode()] for row in range(6)]


async def test_by_default_a_large_request_is_refused_as_triton_does() -> None:
    async with served(lambda x: x) as version:
        with pytest.raises(InvalidArgument, match=r"batch-size must be <= 4 for 'm', got 5 rows"):
            await version.infer(asking(5))


SEQUENCES = """
sequence_batching { control_input {
  name: "START" control { kind: CONTROL_SEQUENCE_START fp32_false_true: [0, 1] } } }
"""


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (("dynamic_batching { }", SEQUENCES), "a request is one step of a sequence"),
        (
            ("dynamic_batching { }", "model_transaction_policy { decoupled: true }"),
            "it is decoupled",
        ),
        (("dims: [2] }\noutput", "dims: [2] allow_ragged_batch: true }\noutput"), "ragged"),
        (('"true"', '"ja"'), "parameter 'split_large_requests' is 'ja', expected true or false"),
    ],
)
def test_what_cannot_be_split_is_refused_at_the_load(change: tuple[str, str], reason: str) -> None:
    text = SPLITS.replace(*change)
    assert text != SPLITS
    start = (TensorSpec("START", Datatype.FP32, (-1, 1)),) if "START" in text else ()
    graph = Signature((*GRAPH.inputs, *start), GRAPH.outputs)
    source = Source("config.pbtxt", text)
    with pytest.raises(LoadFailed, match=reason):
        complete(resolve(parse(text, source.name), "m", source), graph, source)


def test_a_model_without_batches_has_no_requests_to_split() -> None:
    text = SPLITS.replace("max_batch_size: 4", "").replace("dynamic_batching { }", "")
    graph = Signature(
        (TensorSpec("x", Datatype.FP32, (2,)),), (TensorSpec("y", Datatype.FP32, (2,)),)
    )
    source = Source("config.pbtxt", text)
    with pytest.raises(LoadFailed, match=r"it does not batch.*give it a max_batch_size"):
        complete(resolve(parse(text, source.name), "m", source), graph, source)
