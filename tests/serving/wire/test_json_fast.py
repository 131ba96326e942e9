"""Long requests are read by another parser, and say and refuse the same."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.errors import Malformed
from serving.wire import json_fast, json_text, rest

PADDING = b" " * 512
NUMBERS = {
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


def read(loads: Any, text: bytes) -> Any:
    """What is read, arrays as lists; or why it is not."""
    try:
        return loads(text)
    except Malformed as error:
        return error


def plain(value: Any) -> Any:
    """`value` with lists of numbers for FP32 as FP32 has them."""
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, list):
        return [plain(member) for member in value]
    if not isinstance(value, dict):
        return value
    members = {name: plain(member) for name, member in value.items()}
    data = members.get("data")
    is_flat = isinstance(data, list) and all(type(one) in (int, float) for one in data)
    if is_flat and members.get("datatype") == "FP32":
        with np.errstate(over="ignore"):
            members["data"] = np.array(data, np.float64).astype(np.float32).tolist()
    return members


def assert_same(text: bytes) -> None:
    fast, slow = (read(loads, text + PADDING) for loads in (json_fast.loads, json_text.loads))
    if isinstance(slow, Malformed):
        assert isinstance(fast, Malformed)
        assert fast.message == slow.message
    else:
        # NaN equals itself as a text.
        assert json.dumps(plain(fast)) == json.dumps(plain(slow))


@given(documents)
def test_what_is_read_is_the_same(document: Any) -> None:
    assert_same(json.dumps(document, ensure_ascii=False).encode())


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
        b'{"x": ' + b"[" * 200 + b"]" * 200 + b"}",
        b'{"x": ' + b'{"y":' * 200 + b"1" + b"}" * 201,
        b'{"x": "\\ud800"}',
        b'{"x": "\xff"}',
        b"[1, 2]",
        b"3",
        b"",
    ],
)
def test_the_unusual_is_the_same(text: bytes) -> None:
    assert_same(text)


@pytest.mark.skipif(json_fast.simdjson is None, reason="there is no simdjson for this Python")
@pytest.mark.parametrize("datatype", NUMBERS)
def test_numbers_become_an_array_of_their_type(datatype: str) -> None:
    item = {"name": "x", "datatype": datatype, "data": NUMBERS[datatype]}
    text = json.dumps({"inputs": [item]}).encode() + PADDING
    found = json_fast.loads(text)["inputs"][0]["data"]
    assert found.dtype == np.dtype(datatype.replace("FP", "float").lower())
    assert found.tolist() == np.array(NUMBERS[datatype], found.dtype).tolist()


@pytest.mark.parametrize("count", [5, 7])
def test_the_count_of_numbers_is_that_of_the_shape(count: int) -> None:
    item = {"name": "x", "datatype": "FP32", "shape": [2, 3], "data": [1.5] * count}
    text = json.dumps({"inputs": [item]}).encode() + PADDING
    with pytest.raises(Malformed, match=rf"expected 6 elements for shape \[2, 3\], got {count}"):
        rest.decode_infer("m", "", text)


def test_an_object_of_many_keys_is_left_to_the_other_parser() -> None:
    many = {f"key {index}": index for index in range(100_000)}
    inside = {"name": "a", "datatype": "FP32", "shape": [1], "data": [1.5]}

    # Looked for one by one among the others, they would take minutes.
    for document in (
        {"inputs": [inside], "parameters": many},
        {"inputs": [inside | many]},
        many,
    ):
        text = json.dumps(document).encode()
        assert json_fast.loads(text) == json_text.loads(text) == document


def test_more_lists_than_there_may_be_are_refused_before_they_are_read() -> None:
    text = b'{"inputs": [' + b"[]," * json_text.MAX_CONTAINERS + b"1]}"

    with pytest.raises(Malformed, match="more than 1000000 lists and objects"):
        json_fast.loads(text)
