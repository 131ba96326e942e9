"""Files of inputs: arrays, or perf_analyzer's JSON; what does not fit is told with its place."""

import base64
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from serving.bench.inputs import made_up, read, samples
from serving.bench.model import Model, Unsuitable
from serving.dtypes import Datatype
from serving.types import TensorSpec

ROWS = np.arange(10, dtype=np.float32).reshape(5, 2)


def model(rows: int | None = 2, dims: tuple[int, ...] = (2,)) -> Model:
    return Model(
        "m",
        (TensorSpec("x", Datatype.FP32, dims),),
        (TensorSpec("y", Datatype.INT64, ()),),
        rows,
    )


def npz(folder: Path, **arrays: Any) -> Path:
    np.savez(folder / "data.npz", **arrays)
    return folder / "data.npz"


def text(folder: Path, document: Any) -> Path:
    (folder / "data.json").write_bytes(orjson.dumps(document))
    return folder / "data.json"


def test_rows_of_an_array_are_put_together_to_batches(tmp_path: Path) -> None:
    samples = read(npz(tmp_path, x=ROWS, y=np.arange(5)), model())

    assert [sample.inputs[0].array.tolist() for sample in samples] == [
        [[0, 1], [2, 3]],
        [[4, 5], [6, 7]],
    ]
    assert [sample.expected["y"].tolist() for sample in samples] == [[0, 1], [2, 3]]


def test_too_few_rows_are_repeated(tmp_path: Path) -> None:
    (sample,) = read(npz(tmp_path, x=ROWS[:2]), model(rows=3))

    assert sample.inputs[0].array.tolist() == [[0, 1], [2, 3], [0, 1]]


def test_a_model_that_does_not_batch_gets_each_row_by_itself(tmp_path: Path) -> None:
    samples = read(npz(tmp_path, x=ROWS), model(rows=None))

    assert [sample.inputs[0].array.shape for sample in samples] == [(2,)] * 5


def test_perf_analyzers_data_may_be_flat_shaped_or_in_base64(tmp_path: Path) -> None:
    raw = base64.b64encode(np.array([5, 6], np.float32).tobytes()).decode()
    document = {
        "data": [{"x": [1, 2]}, {"x": {"content": [3, 4], "shape": [2]}}, [{"x": {"b64": raw}}]],
        "validation_data": [{"y": [7]}, {"y": [8]}, [{"y": [9]}]],
    }
    samples = read(text(tmp_path, document), model(rows=1))

    assert [sample.inputs[0].array.tolist() for sample in samples] == [[[1, 2]], [[3, 4]], [[5, 6]]]
    assert [sample.expected["y"].tolist() for sample in samples] == [[7], [8], [9]]


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ({"data": [{"z": [1]}]}, r"data\[0\]: no 'x'"),
        ({"data": [{"x": [1, "a"]}]}, r"data\[0\].x"),
        ({"data": [{"x": {"content": [1], "shape": [1]}}]}, r"has the shape \[2\]"),
        ({"data": []}, "no data"),
        ([], "as perf_analyzer takes it"),
        ({"data": [{"x": [1, 2]}], "validation_data": [{}, {}]}, "expected 1 entries"),
        ({"data": [{"x": [1, 2]}], "validation_data": 5}, "expected a list, got 5"),
        ({"data": [1]}, r"data\[0\]: expected an object, got 1"),
        ({"data": [{"x": {"content": [1, 2], "shape": 2}}]}, r"has the shape \[2\]"),
        ({"data": [{"x": {"content": [1, 2], "shape": ["2"]}}]}, r"has the shape \[2\]"),
        ({"data": [{"x": {"b64": 5}}]}, "'x' has neither content nor a text b64"),
    ],
)
def test_what_is_wrong_in_a_json_file_is_told(tmp_path: Path, document: Any, told: str) -> None:
    with pytest.raises(Unsuitable, match=told):
        read(text(tmp_path, document), model())


@pytest.mark.parametrize(
    ("arrays", "told"),
    [
        ({"z": ROWS}, "no array 'x'"),
        ({"x": ROWS.reshape(2, 5)}, r"expected rows of the shape \[2\]"),
        ({"x": ROWS, "y": np.arange(4)}, "as many rows"),
        ({"x": ROWS.astype("U")}, "is not FP32"),
    ],
)
def test_what_is_wrong_in_arrays_is_told(tmp_path: Path, arrays: dict[str, Any], told: str) -> None:
    with pytest.raises(Unsuitable, match=told):
        read(npz(tmp_path, **arrays), model())


def test_rows_of_different_shapes_do_not_share_a_request(tmp_path: Path) -> None:
    entries = [{"x": {"content": [1.0] * n, "shape": [n]}} for n in (1, 2)]
    path = text(tmp_path, {"data": entries})

    with pytest.raises(Unsuitable, match="--batch-size 1"):
        read(path, model(dims=(-1,)))
    assert len(read(path, model(rows=1, dims=(-1,)))) == 2


def test_expected_rows_of_different_shapes_do_not_share_an_answer(tmp_path: Path) -> None:
    expected = [{"x": {"content": [1.0] * n, "shape": [n]}} for n in (1, 2)]
    document = {"data": [{"y": [1]}, {"y": [2]}], "validation_data": expected}
    outputs = (TensorSpec("x", Datatype.FP32, (-1,)),)

    with pytest.raises(Unsuitable, match="rows of 'x' have different shapes"):
        read(text(tmp_path, document), Model("m", model().outputs, outputs, 2))


def test_what_is_no_archive_of_arrays_is_told(tmp_path: Path) -> None:
    path = tmp_path / "data.npz"
    path.touch()
    with pytest.raises(Unsuitable, match=r"data\.npz: No data left in file"):
        read(path, model())
    with path.open("wb") as file:
        np.save(file, ROWS)
    with pytest.raises(Unsuitable, match=r"data\.npz: one array without a name"):
        read(path, model())


def test_a_file_that_is_not_there_is_told() -> None:
    with pytest.raises(Unsuitable, match=r"nowhere\.npz"):
        read(Path("nowhere.npz"), model())


def test_every_input_of_variable_size_is_named_with_the_option_that_sizes_it() -> None:
    inputs = tuple(TensorSpec(name, Datatype.INT64, (-1, 4)) for name in ("ids", "mask"))

    with pytest.raises(Unsuitable, match="--shape ids:1,4 --shape mask:1,4"):
        made_up(Model("m", inputs, (), 1), is_zero=True, string_length=0, seed=0)


@pytest.mark.parametrize(
    ("dims", "data", "length"),
    [
        ((10**12,), "random", 16),
        ((10**30,), "zero", 16),
        ((10**12,), "data.npz", 16),
    ],
)
def test_no_request_is_larger_than_can_be_sent(
    dims: tuple[int, ...], data: str, length: int
) -> None:
    with pytest.raises(Unsuitable, match="bytes of inputs, and may have 2,147,483,647"):
        samples(data, model(dims=dims), length)


def test_no_string_is_longer_than_can_be_sent() -> None:
    spec = TensorSpec("x", Datatype.BYTES, (1,))
    with pytest.raises(Unsuitable, match="shorter strings"):
        samples("random", Model("m", (spec,), (), 1), 10**13)
