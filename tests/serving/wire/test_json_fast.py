"""Lists of numbers are taken out of long requests, which say and are refused the same."""

import json
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from serving.dtypes import from_wire
from serving.errors import InvalidArgument, Malformed
from serving.wire import json_fast, json_tensors, json_text, rest
from serving.wire.fields import TensorHeader

PADDING = b" " * 512
NUMBERS: dict[str, list[float]] = {
    "FP32": [1, -2.5, 3e38],
    "FP64": [0.1, 1e308],
    "INT8": [-128, 127],
    "UINT64": [2**64 - 1],
}

texts = st.text(max_size=5)
scalars = st.none() | st.booleans() | st.integers() | st.floats() | texts
values = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3)
)
inputs = st.fixed_dictionaries(
    {},
    optional={
        "name": texts,
        "datatype": st.sampled_from(["FP32", "INT8", "UINT64", "BOOL", "BYTES", "FP99"]) | values,
        "shape": st.lists(st.integers(0, 4), max_size=2) | values,
        "data": st.lists(st.integers(-300, 300) | st.floats(), max_size=4) | values,
        "parameters": values,
    },
)
documents = st.fixed_dictionaries({"inputs": st.lists(inputs, max_size=2) | values}) | values

needs_simdjson = pytest.mark.skipif(
    json_fast.simdjson is None, reason="there is no simdjson for this Python"
)


def read(text: bytes) -> Any:
    """What a request says, with its tensors as lists; or why it is refused."""
    try:
        request, encoding = rest.decode_infer("m", "", text)
    except InvalidArgument as error:
        return type(error), error.message
    tensors = [(one.name, one.array.dtype, one.array.tolist()) for one in request.inputs]
    return repr((request.id, request.parameters, request.outputs, encoding, tensors))


def assert_same(text: bytes) -> None:
    padded = text + PADDING
    with mock.patch.object(json_fast, "simdjson", None):
        slowly = read(padded)
    # Once as what never came before, and once as what did.
    assert read(padded) == slowly
    assert read(padded) == slowly


@given(documents)
def test_what_is_read_is_the_same(document: Any) -> None:
    assert_same(json.dumps(document, ensure_ascii=False).encode())


@st.composite
def nested(draw: st.DrawFn) -> bytes:
    """A request with a tensor of numbers, flat or nested as its shape is, or almost."""
    shape = draw(st.lists(st.integers(0, 3), min_size=1, max_size=3))
    data = draw(arrays(np.int8, tuple(shape))).tolist()
    if draw(st.booleans()):
        data = np.ravel(data).tolist()
    text = json.dumps({"inputs": [{"name": "x", "datatype": "FP32", "data": data, "shape": shape}]})
    if draw(st.booleans()):
        place = draw(st.integers(text.index("data"), len(text)))
        removed = draw(st.integers(0, 2))
        text = text[:place] + draw(st.text('[], 1-."}', max_size=2)) + text[place + removed :]
    return text.encode()


@given(nested(), st.integers(1, 20))
def test_numbers_are_the_same_however_they_are_nested(text: bytes, piece: int) -> None:
    with mock.patch.object(json_fast, "_PIECE", piece):
        assert_same(text)


@pytest.mark.parametrize(
    ("numbers", "count"),
    [("1,2,3", 3), ("1,2,", 2), ("1,2, ", 2), ("1,,2", 2), (",1,2", 2), ("1,2 3", 2)],
)
@pytest.mark.parametrize("piece", range(1, 6))
def test_numbers_are_the_same_however_they_are_cut(numbers: str, count: int, piece: int) -> None:
    item = f'{{"name": "x", "datatype": "INT8", "shape": [{count}], "data": [{numbers}]}}'
    with mock.patch.object(json_fast, "_PIECE", piece):
        assert_same(f'{{"inputs": [{item}]}}'.encode())


@needs_simdjson
@pytest.mark.parametrize("shape", [(6,), (2, 3), (1, 3, 2, 1)])
@pytest.mark.parametrize("indent", [None, 1])
def test_numbers_never_become_objects_however_they_are_nested(
    shape: tuple[int, ...], indent: int | None
) -> None:
    data = np.arange(6.0).reshape(shape).tolist()
    item = {"name": "x", "datatype": "FP32", "data": data, "shape": shape}
    text = json.dumps({"inputs": [item, item | {"name": "y"}]}, indent=indent).encode() + PADDING

    with mock.patch.object(json_tensors, "numeric_array", side_effect=AssertionError):
        request, _ = rest.decode_infer("m", "", text)

    assert [one.array.tolist() for one in request.inputs] == [data, data]


@given(st.binary(max_size=60))
def test_what_is_no_json_is_refused_in_the_same_words(text: bytes) -> None:
    assert_same(text)


@pytest.mark.parametrize(
    "text",
    [
        b'{"a": 1, "a": 2}',
        b'{"inputs": [{"a": 1, "a": 2}]}',
        b'{"inputs": [{"parameters": {"a": 1, "a": 2}}]}',
        b'{"outputs": [{"a": [{"b": 1, "b": 2}]}]}',
        b'{"inputs": [{"datatype": "FP32", "data": [1, [2, 3]]}]}',
        b'{"inputs": [{"datatype": "INT8", "data": [1, 2.0]}]}',
        b'{"inputs": [{"datatype": "INT8", "data": [1, 128]}]}',
        b'{"inputs": [{"datatype": "UINT8", "data": [-1]}]}',
        b'{"inputs": [{"datatype": "BOOL", "data": [true, 1]}]}',
        b'{"inputs": [{"datatype": "FP32", "data": [1e39, NaN, 1]}]}',
        b'{"inputs": [{"datatype": "FP32", "data": [1e400]}]}',
        b'{"inputs": [{"datatype": "FP32", "data": []}]}',
        b'{"inputs": [{"data": [1], "datatype": "FP32", "datatype": "INT8"}]}',
        b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": [1], '
        b'"more": {"data": [1 2]}}]}',
        b'{"x": ' + b"[" * 200 + b"]" * 200 + b"}",
        b'{"x": ' + b'{"y":' * 200 + b"1" + b"}" * 201,
        b'{"x": "\\ud800"}',
        b'{"x": "\xff"}',
        b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1[,2]]}]}',
        b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [2, 2], "data": [[1,2,3],[4]]}]}',
        b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [2, 1], "data": [[1]2,[3]]}]}',
        b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 1], "data": [[1]]]}]}',
        b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [99999999, 99999999, 9], '
        b'"data": [[1]]}]}',
        b'{"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 1], "data": [[1]]',
        b"[1, 2]",
        b"3",
        b"",
    ],
)
def test_the_unusual_is_the_same(text: bytes) -> None:
    assert_same(text)


@pytest.mark.parametrize(
    "inputs",
    [
        [{"name": "x", "datatype": "FP32", "shape": [3], "data": [1, -2.5, 3e38]}],
        [{"name": "x", "datatype": "FP32", "shape": [2], "data": [0, 1e39]}],
        [{"name": "x", "datatype": "FP32", "shape": [0], "data": []}],
        [{"name": "x", "datatype": "FP64", "shape": [2], "data": [0.1, 1e308]}],
        [{"name": "x", "datatype": "INT8", "shape": [2], "data": [-128, 127]}],
        [{"name": "x", "datatype": "INT8", "shape": [2], "data": [-128, 128]}],
        [{"name": "x", "datatype": "UINT64", "shape": [1], "data": [2**64 - 1]}],
        [{"name": "x", "datatype": "BOOL", "shape": [2], "data": [True, False]}],
        [{"name": "x", "datatype": "BYTES", "shape": [2], "data": ["]", "[1]"]}],
        [{"name": "x", "datatype": "FP32", "shape": [2, 1], "data": [[1], [2]]}],
        [{"name": "data", "datatype": "FP32", "shape": [1], "data": [1.5]}],
        [
            {"name": "x", "datatype": "FP32", "shape": [1], "data": [1.5]},
            {"name": "y", "datatype": "INT64", "shape": [2], "data": [7, 8]},
        ],
        [
            {"name": "x", "datatype": "FP32", "shape": [1], "data": [0]},
            {"name": "y", "datatype": "FP32", "shape": [1], "parameters": {"data": [1]}},
        ],
    ],
)
@pytest.mark.parametrize("separators", [(",", ":"), (", ", " :\t")])
def test_tensors_are_the_same(inputs: Any, separators: tuple[str, str]) -> None:
    assert_same(json.dumps({"inputs": inputs}, separators=separators).encode())


@needs_simdjson
def test_a_text_like_what_a_longer_one_left_means_itself() -> None:
    item = {"name": "x", "datatype": "FP32", "shape": [1], "data": [5]}
    long = json.dumps({"inputs": [item]}).encode() + PADDING
    left, _ = json_fast.take_out(long)

    assert "[5.0]" in read(long)
    assert "[0.0]" in read(left)
    assert "[0.0]" in read(left.strip())


@needs_simdjson
@pytest.mark.parametrize("datatype", NUMBERS)
def test_numbers_become_an_array_of_their_type(datatype: str) -> None:
    wanted = from_wire(datatype)
    text = json.dumps(NUMBERS[datatype]).encode()
    size = len(NUMBERS[datatype])
    found = json_fast.numbers(text, TensorHeader("x", wanted, (size,), size))
    assert found.dtype == wanted.numpy
    assert found.tolist() == np.array(NUMBERS[datatype], found.dtype).tolist()


@needs_simdjson
def test_only_lists_of_inputs_are_taken_out() -> None:
    text = b'{"id": "data", "inputs": [{"data":[1, 2], "data_":[3]}, {"data" : [4]}]}' + PADDING
    left = b'{"id": "data", "inputs": [{"data":[0], "data_":[3]}, {"data" : [1]}]}' + PADDING

    assert json_fast.take_out(text) == (left, [b"[1, 2]", b"[4]"])


@pytest.mark.parametrize("count", [5, 7])
def test_the_count_of_numbers_is_that_of_the_shape(count: int) -> None:
    item = {"name": "x", "datatype": "FP32", "shape": [2, 3], "data": [1.5] * count}
    text = json.dumps({"inputs": [item]}).encode() + PADDING
    with pytest.raises(Malformed, match=rf"expected 6 elements for shape \[2, 3\], got {count}"):
        rest.decode_infer("m", "", text)


def test_more_lists_than_there_may_be_are_refused_before_they_are_read() -> None:
    text = b'{"inputs": [' + b"[]," * json_text.MAX_CONTAINERS + b"1]}"

    with pytest.raises(Malformed, match="more than 1000000 lists and objects"):
        rest.decode_infer("m", "", text)
