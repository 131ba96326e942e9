"""Sequences on ONNX Runtime itself: what the model is told, and what it remembers."""

import asyncio
import random
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import accumulate
from pathlib import Path
from struct import pack
from typing import Any

import numpy as np
import pytest

from serving.config import Source, complete, parse, resolve
from serving.dtypes import Datatype
from serving.engine.backends.ort import OrtBackend
from serving.engine.model import ModelVersion
from serving.engine.repository import ModelFolder
from serving.engine.scheduling import schedule
from serving.engine.sequences import read_initial_states
from serving.engine.servable import Opened
from serving.errors import Internal, InvalidArgument, LoadFailed, Unavailable
from serving.types import Array, InferenceRequest, Tensor
from tests import sequence_models as models


class Watched:
    """A session that remembers what it was given, and fails when it is told to."""

    def __init__(self, session: Any) -> None:
        self.signature = session.signature
        self.steady = session.steady
        self.ran: list[Mapping[str, Array]] = []
        self.fails = False
        self._session = session

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> list[Array]:
        if self.fails:
            raise Internal("onnx runtime error: broken")
        self.ran.append(dict(inputs))
        arrays: list[Array] = self._session.run(inputs, outputs)
        return arrays

    def close(self) -> None:
        self._session.close()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "m" / "initial_state").mkdir(parents=True)
    return tmp_path


def open_model(folder: Path, made: Any, text: str, instances: int = 1) -> Opened:
    models.add(folder, "m", made, text)
    source = Source("config.pbtxt", text)
    resolved = resolve(parse(text, source.name), "m", source, files=["model.onnx"])
    backend = OrtBackend(threads=1)
    sessions = [Watched(backend.open(resolved, folder / "m" / "1")) for _ in range(instances)]
    config = complete(resolved, sessions[0].signature, source)
    states = read_initial_states(config, ModelFolder("m", folder, (1,), text))
    return Opened(config, "1", sessions, initial_states=states)


@asynccontextmanager
async def served(opened: Opened) -> AsyncIterator[ModelVersion]:
    version = ModelVersion(opened, schedule(opened, 64))
    try:
        yield version
    finally:
        await version.close()


def watched(opened: Opened) -> Watched:
    [session] = opened.sessions
    assert isinstance(session, Watched)
    return session


async def ask(
    version: ModelVersion,
    x: float,
    sequence: int | str = 7,
    *,
    start: bool = False,
    end: bool = False,
    rows: int = 1,
) -> list[float]:
    """The first output for one number, of whatever batch size the model takes."""
    shape = (rows, 1) if version.opened.config.max_batch_size else (1,)
    flags = {"sequence_id": sequence, "sequence_start": start, "sequence_end": end}
    tensor = Tensor("x", Datatype.FP32, np.full(shape, x, np.float32))
    response = await version.infer(InferenceRequest("m", (tensor,), parameters=flags))
    numbers: list[float] = response.outputs[0].array.ravel().tolist()
    return numbers


async def test_the_model_is_told_where_in_its_sequence_each_request_stands(folder: Path) -> None:
    async with served(open_model(folder, models.witness(), models.witness_config())) as version:
        assert await ask(version, 1, start=True) == [1, 1, 0, 1, 7]
        assert await ask(version, 2) == [2, 0, 0, 1, 7]
        assert await ask(version, 3, end=True) == [3, 0, 1, 1, 7]
        assert await ask(version, 4, 9, start=True, end=True) == [4, 1, 1, 1, 9]


async def test_a_row_without_a_request_is_not_ready(folder: Path) -> None:
    opened = open_model(folder, models.witness(), models.witness_config())
    async with served(opened) as version:
        await ask(version, 1, 7, start=True)
        await ask(version, 2, 8, start=True)
    second = {name: array[:, 0].tolist() for name, array in watched(opened).ran[1].items()}
    assert second == {
        "x": [0, 2],
        "start": [0, 1],
        "end": [0, 0],
        "ready": [False, True],
        "id": [0, 8],
    }


async def test_rows_without_a_request_count_as_rows_that_ran(folder: Path) -> None:
    async with served(open_model(folder, models.witness(), models.witness_config())) as version:
        await ask(version, 1, 7, start=True)
        await ask(version, 2, 8, start=True)
        assert {
            rows: batch.compute_infer.count for rows, batch in version.statistics.batches.items()
        } == {1: 1, 2: 1}
        assert version.statistics.inference_count == 2


async def test_a_model_that_does_not_batch_takes_one_sequence_at_a_time(folder: Path) -> None:
    text = models.witness_config(size=0)
    async with served(open_model(folder, models.witness(batches=False), text)) as version:
        assert await ask(version, 1, start=True) == [1, 1, 0, 1, 7]
        waiting = asyncio.ensure_future(ask(version, 5, 8, start=True))
        assert await ask(version, 2, end=True) == [2, 0, 1, 1, 7]
        assert await waiting == [5, 1, 0, 1, 8]


async def test_a_state_comes_back_with_the_next_request_of_its_sequence(folder: Path) -> None:
    async with served(open_model(folder, models.adder(), models.adder_config())) as version:
        assert [await ask(version, x, start=x == 1) for x in (1, 2, 3)] == [[1], [3], [6]]


async def test_states_of_different_sequences_are_not_mixed_up(folder: Path) -> None:
    async with served(open_model(folder, models.adder(), models.adder_config())) as version:
        for x, sums in ((1, [1, 10]), (2, [3, 30]), (3, [6, 60])):
            pair = (ask(version, f * x, f, start=x == 1) for f in (1, 10))
            assert await asyncio.gather(*pair) == [[total] for total in sums]


async def test_a_start_begins_from_the_initial_state_again(folder: Path) -> None:
    async with served(open_model(folder, models.adder(), models.adder_config())) as version:
        await ask(version, 5, start=True)
        assert await ask(version, 2, start=True) == [2]
        assert await ask(version, 2, end=True) == [4]
        assert await ask(version, 9, start=True) == [9]


@pytest.mark.parametrize("size", [0, 3])
async def test_a_state_may_begin_with_what_a_file_holds(folder: Path, size: int) -> None:
    (folder / "m" / "initial_state" / "hundred").write_bytes(pack("<f", 100))
    initial = 'initial_state { name: "a" data_type: TYPE_FP32 dims: 1 data_file: "hundred" }'
    text = models.adder_config(size=size, initial=initial)
    async with served(open_model(folder, models.adder(size > 0), text)) as version:
        assert await ask(version, 1, start=True) == [101]
        assert await ask(version, 1) == [102]


def test_a_file_that_is_too_short_for_its_state_fails_the_load(folder: Path) -> None:
    (folder / "m" / "initial_state" / "short").write_bytes(b"\0")
    initial = 'initial_state { name: "a" data_type: TYPE_FP32 dims: 1 data_file: "short" }'
    with pytest.raises(LoadFailed, match=r"short has 1 bytes, and a FP32 tensor .* needs 4"):
        open_model(folder, models.adder(), models.adder_config(initial=initial))


@pytest.mark.parametrize("strategy", ["direct {}", "oldest { max_candidate_sequences: 3 }"])
async def test_states_of_different_shapes_run_beside_each_other(
    folder: Path, strategy: str
) -> None:
    async with served(
        open_model(folder, models.memory(), models.memory_config(strategy))
    ) as version:
        assert await ask(version, 1, 1, start=True) == [0, 1]
        assert await ask(version, 2, 1) == [0, 1, 2]
        both = await asyncio.gather(ask(version, 3, 1), ask(version, 9, 2, start=True))
        assert list(both) == [[0, 1, 2, 3], [0, 9]]
        both = await asyncio.gather(ask(version, 4, 1), ask(version, 8, 2))
        assert list(both) == [[0, 1, 2, 3, 4], [0, 9, 8]]


async def test_a_step_that_fails_leaves_the_state_as_it_was(folder: Path) -> None:
    opened = open_model(folder, models.adder(), models.adder_config())
    async with served(opened) as version:
        await ask(version, 1, start=True)
        watched(opened).fails = True
        with pytest.raises(Internal, match="broken"):
            await ask(version, 2)
        watched(opened).fails = False
        assert await ask(version, 4) == [5]


async def test_sequences_finish_once_their_last_request_has_come(folder: Path) -> None:
    async with served(open_model(folder, models.adder(), models.adder_config())) as version:
        assert await ask(version, 1, start=True) == [1]
        finishing = asyncio.ensure_future(version.finish_sequences())
        assert await ask(version, 2) == [3]
        with pytest.raises(Unavailable, match="Server is stopping"):
            await ask(version, 5, 8, start=True)
        assert not finishing.done()
        assert await ask(version, 3, end=True) == [6]
        await finishing


async def test_where_there_are_no_sequences_they_have_finished(folder: Path) -> None:
    async with served(open_model(folder, models.adder(), models.adder_config())) as version:
        await version.finish_sequences()
        await version.finish_sequences()


STRATEGIES = [
    "direct {}",
    "direct { max_queue_delay_microseconds: 500 minimum_slot_utilization: 0.7 }",
    "oldest { max_candidate_sequences: 5 }",
    "oldest { preserve_ordering: true preferred_batch_size: 2 max_queue_delay_microseconds: 500 }",
]


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("instances", [1, 2])
async def test_many_sequences_at_once_each_get_their_own_sums(
    folder: Path, strategy: str, instances: int
) -> None:
    """More sequences than slots, of all lengths, some with requests ahead of their answers."""
    dice = random.Random(strategy)
    opened = open_model(folder, models.adder(), models.adder_config(strategy), instances)

    async def run(version: ModelVersion, sequence: int) -> None:
        numbers = [float(dice.randrange(100)) for _ in range(dice.randrange(1, 12))]
        ends = len(numbers) - 1

        def step(place: int) -> Coroutine[Any, Any, list[float]]:
            is_end = place == ends
            return ask(version, numbers[place], sequence, start=place == 0, end=is_end)

        if dice.random() < 0.5:
            totals = [await step(place) for place in range(len(numbers))]
        else:
            totals = await asyncio.gather(*(step(place) for place in range(len(numbers))))
        assert totals == [[total] for total in accumulate(numbers)]

    async with served(opened) as version:
        await asyncio.gather(*(run(version, sequence) for sequence in range(1, 13)))
        assert version.statistics.execution_count < version.statistics.inference_count


async def test_the_oldest_strategy_leaves_no_row_empty(folder: Path) -> None:
    opened = open_model(folder, models.adder(), models.adder_config("oldest {}"))
    async with served(opened) as version:
        await ask(version, 1, 1, start=True)
        await ask(version, 2, 2, start=True)
    assert [len(inputs["x"]) for inputs in watched(opened).ran] == [1, 1]


async def test_a_sequence_may_be_known_by_a_text(folder: Path) -> None:
    async with served(open_model(folder, models.adder(), models.adder_config())) as version:
        assert await ask(version, 1, "a", start=True) == [1]
        assert await ask(version, 5, "b", start=True) == [5]
        assert await ask(version, 1, "a") == [2]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"sequence": 0},
            "inference request to model 'm' must specify a non-zero or non-empty correlation ID",
        ),
        (
            {"sequence": ""},
            "inference request to model 'm' must specify a non-zero or non-empty correlation ID",
        ),
        (
            {"rows": 2, "start": True},
            "inference request to model 'm' must specify batch-size 1 due to requirements of "
            "sequence batcher",
        ),
        (
            {},
            "inference request for sequence 7 to model 'm' must specify the START flag on the "
            "first request of the sequence",
        ),
        (
            {"sequence": "a", "start": True},
            "parameters.sequence_id: expected an integer, which model 'm' takes as its control "
            "input 'id', got 'a'",
        ),
    ],
)
async def test_a_request_that_is_no_step_of_a_sequence_is_refused(
    folder: Path, options: Any, message: str
) -> None:
    async with served(open_model(folder, models.witness(), models.witness_config())) as version:
        with pytest.raises(InvalidArgument) as refused:
            await ask(version, 1, **options)
        assert refused.value.message == message
        assert sum(version.statistics.failures.values()) == 1
