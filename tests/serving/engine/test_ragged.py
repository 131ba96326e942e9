"""Requests of different sizes in one batch of ONNX Runtime itself."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.config import ModelConfig, Source, complete, parse, resolve
from serving.dtypes import Datatype
from serving.engine.backends.ort import OrtBackend
from serving.engine.model import ModelVersion
from serving.engine.ragged import RaggedExecution
from serving.engine.scheduling import schedule
from serving.engine.servable import Opened
from serving.engine.validation import Validator
from serving.engine.warmup import zeros
from serving.errors import Internal, LoadFailed
from serving.types import Array, InferenceRequest, Signature, Tensor, TensorSpec
from tests.ragged_models import DOUBLE, EDGES, SCATTER, SUM, WAIT, WHOLE, X, summer
from tests.serving import graphs

SIGNATURE = Signature(
    inputs=(
        TensorSpec("x", Datatype.FP32, (-1,)),
        TensorSpec("edges", Datatype.INT32, (-1,)),
    ),
    outputs=(
        TensorSpec("sum", Datatype.FP32, (-1, 1)),
        TensorSpec("double", Datatype.FP32, (-1,)),
    ),
)


def config_of(text: str, signature: Signature = SIGNATURE, size: int = 8) -> ModelConfig:
    text = f'backend: "onnxruntime" max_batch_size: {size}\n{text}'
    source = Source("m/config.pbtxt", text)
    resolved = resolve(parse(text, source.name), "m", source, files=["model.onnx"])
    return complete(resolved, signature, source)


def open_model(folder: Path, text: str = WHOLE + WAIT, size: int = 8) -> Opened:
    graphs.write(summer(), folder / "model.onnx")
    config = config_of(text, size=size)
    return Opened(config, "1", [OrtBackend(threads=1).open(config.proto, folder)])


def tensor(*numbers: float, rows: int = 1) -> Tensor:
    return Tensor("x", Datatype.FP32, np.array(numbers, np.float32).reshape(rows, -1))


async def ask(version: ModelVersion, *tensors: Tensor) -> list[list[object]]:
    """The outputs of requests that come together."""
    answers = await asyncio.gather(
        *(version.infer(InferenceRequest("m", (each,))) for each in tensors)
    )
    return [[output.array.tolist() for output in answer.outputs] for answer in answers]


async def test_requests_of_different_sizes_share_a_batch(tmp_path: Path) -> None:
    version = ModelVersion(opened := open_model(tmp_path), schedule(opened, 16))
    answers = await ask(version, tensor(1, 2, 3), tensor(10), tensor(4, 5))
    assert answers == [
        [[[6]], [[2, 4, 6]]],
        [[[10]], [[20]]],
        [[[9]], [[8, 10]]],
    ]
    assert version.statistics.execution_count == 1
    await version.close()


async def test_a_request_by_itself_is_a_batch_as_well(tmp_path: Path) -> None:
    opened = open_model(tmp_path, WHOLE)
    version = ModelVersion(opened, schedule(opened, 16))
    assert await ask(version, tensor(1, 2)) == [[[[3]], [[2, 4]]]]
    await version.close()


async def test_a_model_that_does_not_batch_is_told_of_its_request_too(tmp_path: Path) -> None:
    alone = WHOLE.replace(" allow_ragged_batch: true", "").replace("dims: 1 }", "dims: [-1, 1] }")
    opened = open_model(tmp_path, alone, size=0)
    version = ModelVersion(opened, schedule(opened, 16))
    x = Tensor("x", Datatype.FP32, np.array([1, 2, 3], np.float32))
    assert await ask(version, x) == [[[[6]], [2, 4, 6]]]
    await version.close()


def test_zeros_to_warm_the_model_fit_its_graph(tmp_path: Path) -> None:
    [session] = open_model(tmp_path).sessions
    inputs = zeros(config_of(WHOLE), 2)
    assert {name: array.tolist() for name, array in inputs.items()} == {
        "x": [0, 0],
        "edges": [0, 2],
    }
    assert [array.shape for array in session.run(inputs, ["sum", "double"])] == [(1, 1), (2,)]


def fed(kind: str, *tensors: Tensor, datatype: str = "TYPE_INT32") -> Array:
    """What a batch input of this kind tells of these requests."""
    told = (
        f'batch_input {{ kind: {kind} target_name: "edges" data_type: {datatype} '
        'source_input: "x" }\n'
    )
    edges = TensorSpec("edges", Datatype[datatype.removeprefix("TYPE_")], (-1,))
    signature = Signature((SIGNATURE.inputs[0], edges), SIGNATURE.outputs)
    execution = RaggedExecution(config_of(X + SUM + DOUBLE + SCATTER + told, signature))
    return execution.feed([[each] for each in tensors])["edges"]


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("BATCH_ELEMENT_COUNT", [3, 4]),
        ("BATCH_ACCUMULATED_ELEMENT_COUNT", [3, 7]),
        ("BATCH_ACCUMULATED_ELEMENT_COUNT_WITH_ZERO", [0, 3, 7]),
        ("BATCH_MAX_ELEMENT_COUNT_AS_SHAPE", [0, 0, 0, 0]),
        ("BATCH_ITEM_SHAPE", [[3], [2], [2]]),
        ("BATCH_ITEM_SHAPE_FLATTEN", [3, 2, 2]),
    ],
)
@pytest.mark.parametrize("datatype", ["TYPE_INT32", "TYPE_FP32"])
def test_a_batch_input_tells_of_its_source(
    kind: str, expected: Sequence[object], datatype: str
) -> None:
    told = fed(kind, tensor(1, 2, 3), tensor(1, 2, 3, 4, rows=2), datatype=datatype)
    assert told.tolist() == expected
    assert told.dtype == (np.int32 if datatype == "TYPE_INT32" else np.float32)


@given(
    st.lists(st.lists(st.floats(-9, 9, width=32), min_size=1, max_size=6), min_size=1, max_size=8)
)
def test_what_is_put_end_to_end_comes_back_in_the_same_parts(numbers: list[list[float]]) -> None:
    config = config_of(WHOLE)
    execution, validator = RaggedExecution(config), Validator(config)
    requests = [InferenceRequest("m", (tensor(*each),)) for each in numbers]
    admitted = [validator.admit(request) for request in requests]
    assert len({item.key for item in admitted}) == 1
    row = execution.feed([item.inputs for item in admitted])["x"]
    answers = execution.share({"double": row}, admitted, [item.rows for item in admitted])
    for answer, each in zip(answers, numbers, strict=True):
        assert answer["double"].tolist() == tensor(*each).array.tolist()


def test_results_that_do_not_add_up_are_the_models_fault() -> None:
    config = config_of(WHOLE)
    item = Validator(config).admit(InferenceRequest("m", (tensor(1, 2),)))
    with pytest.raises(Internal, match=r"'double' of the model has 3 elements for requests of"):
        RaggedExecution(config).share({"double": np.zeros(3, np.float32)}, [item], [1])


def test_clients_do_not_see_batch_inputs() -> None:
    assert [spec.name for spec in config_of(WHOLE).inputs] == ["x"]


def batch_input(rest: str) -> str:
    return f'batch_input {{ target_name: "edges" {rest} }}\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            X + SUM + DOUBLE + SCATTER + batch_input("data_type: TYPE_INT32"),
            "batch input kind 'BATCH_ELEMENT_COUNT' expects 1 source input, got 0",
        ),
        (
            X + SUM + DOUBLE + SCATTER + batch_input("data_type: TYPE_INT32 source_input: 'z'"),
            "unknown source input name 'z'",
        ),
        (
            X + SUM + DOUBLE + SCATTER + batch_input("data_type: TYPE_INT64 source_input: 'x'"),
            "batch input data type must be TYPE_INT32 or TYPE_FP32",
        ),
        (
            X + SUM + DOUBLE + SCATTER + batch_input("data_type: TYPE_FP32 source_input: 'x'"),
            "configuration expects datatype TYPE_FP32 for batch input 'edges', model provides "
            "TYPE_INT32",
        ),
        (
            (X + SUM + DOUBLE + EDGES + SCATTER).replace('"edges"', '"edge"'),
            "the model provides no input 'edge'",
        ),
        (
            X + SUM + DOUBLE + EDGES + 'batch_output { target_name: "double" }',
            "batch output kind 'BATCH_SCATTER_WITH_INPUT_SHAPE' expects 1 source input, got 0",
        ),
        (
            X + SUM + DOUBLE + EDGES + SCATTER.replace('"double"', '"other"'),
            "unknown target output name 'other'",
        ),
        (
            X + SUM + DOUBLE + EDGES + SCATTER.replace('"double"', '["double", "double"]'),
            "target output name 'double' can only be specified once",
        ),
        (
            WHOLE + "sequence_batching {}",
            "ragged batches of sequences are not honoured",
        ),
        (
            WHOLE.replace("allow_ragged_batch: true", "allow_ragged_batch: true optional: true"),
            "which is not supported for optional input",
        ),
        (
            (X + SUM + DOUBLE + EDGES).replace("allow_ragged_batch: true", "optional: true"),
            "'BATCH_ACCUMULATED_ELEMENT_COUNT_WITH_ZERO' has the optional source input 'x'",
        ),
        (
            WHOLE.replace("TYPE_FP32 dims: -1 }", "TYPE_FP32 dims: [-1, -1] }"),
            "batch output 'double' varies in a dimension that its source input 'x' does not have",
        ),
    ],
)
def test_what_cannot_be_ragged_is_refused_and_named(text: str, message: str) -> None:
    with pytest.raises(LoadFailed) as refused:
        config_of(text)
    assert message in refused.value.message


def test_a_ragged_input_is_one_row_in_the_graph() -> None:
    x = TensorSpec("x", Datatype.FP32, (-1, -1))
    with pytest.raises(LoadFailed, match=r"input with shape \[-1\] for ragged input 'x', model "):
        config_of(WHOLE, Signature((x, SIGNATURE.inputs[1]), SIGNATURE.outputs))


def test_only_a_model_that_batches_has_ragged_batches() -> None:
    with pytest.raises(LoadFailed, match="input 'x' is ragged in a model that does not batch"):
        config_of(WHOLE, size=0)
