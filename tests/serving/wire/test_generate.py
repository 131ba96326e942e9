"""The generate extension's JSON: which member becomes what, and what comes back."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.dtypes import Datatype
from serving.errors import InvalidArgument, ServingError
from serving.types import Array, InferenceRequest, InferenceResponse, Tensor, TensorSpec
from serving.wire import generate

TEXT = TensorSpec("text_input", Datatype.BYTES, (-1, 1))
NUMBERS = TensorSpec("n", Datatype.INT32, (-1,))
FLAG = TensorSpec("stream", Datatype.BOOL, (1,))


def decode(document: Any, *specs: TensorSpec) -> InferenceRequest:
    return generate.decode("m", "2", json.dumps(document).encode(), specs or (TEXT, NUMBERS, FLAG))


def array(value: Any, dims: tuple[int, ...], datatype: Datatype = Datatype.INT32) -> Array:
    [tensor] = decode({"x": value}, TensorSpec("x", datatype, dims)).inputs
    return tensor.array


def encode(*outputs: Tensor, id: str = "", **parameters: str) -> Any:
    response = InferenceResponse("m", "2", outputs, id, parameters)
    return json.loads(generate.encode(response))


def output(values: Any, datatype: Datatype = Datatype.INT32) -> Tensor:
    dtype = object if datatype is Datatype.BYTES else datatype.numpy
    return Tensor("y", datatype, np.array(values, dtype))


def test_members_that_name_inputs_are_tensors_and_others_are_parameters() -> None:
    request = decode({"text_input": "hi", "temperature": 0.5, "n": [1, 2], "stop": "x", "k": True})
    assert {tensor.name: tensor.array.tolist() for tensor in request.inputs} == {
        "text_input": [[b"hi"]],
        "n": [1, 2],
    }
    assert request.parameters == {"temperature": 0.5, "stop": "x", "k": True}
    assert (request.model, request.version, request.id) == ("m", "2", "")


def test_the_id_is_the_requests() -> None:
    assert decode({"id": "seven"}).id == "seven"


def test_members_of_parameters_count_like_those_beside_it() -> None:
    request = decode({"text_input": "hi", "parameters": {"stream": False, "max_tokens": 7}})
    assert [tensor.name for tensor in request.inputs] == ["text_input", "stream"]
    assert request.parameters == {"max_tokens": 7}


@pytest.mark.parametrize("name", ["id", "parameters"])
def test_an_input_may_bear_any_name(name: str) -> None:
    request = decode({name: [1, 2]}, TensorSpec(name, Datatype.INT32, (-1,)))
    assert request.inputs[0].array.tolist() == [1, 2]


@pytest.mark.parametrize(
    ("value", "dims", "expected"),
    [
        (5, (1,), (1,)),
        (5, (-1, 1), (1, 1)),
        (5, (-1, -1), (1, 1)),
        ([5], (-1,), (1,)),
        ([1, 2], (2,), (2,)),
        ([1, 2], (-1, 1), (2, 1)),
        ([1, 2], (-1, -1), (1, 2)),
        ([1, 2, 3, 4], (2, 2), (2, 2)),
        ([1, 2, 3, 4], (-1, 2, 2), (1, 2, 2)),
        ([1, 2, 3, 4], (-1, -1, 2), (1, 2, 2)),
        ([1, 2, 3, 4], (2, -1), (2, 2)),
        ([[1, 2], [3, 4]], (-1, 2), (2, 2)),
        ([], (-1,), (0,)),
        ([], (2, -1), (2, 0)),
    ],
)
def test_the_last_variable_dim_takes_the_elements_and_others_are_one(
    value: Any, dims: tuple[int, ...], expected: tuple[int, ...]
) -> None:
    assert array(value, dims).shape == expected


@pytest.mark.parametrize(
    ("value", "dims"), [([1, 2, 3], (-1, 2)), (5, (2,)), ([1, 2], (1,)), ([], (1,)), ([1], (-1, 0))]
)
def test_elements_that_fill_no_such_shape_are_refused(value: Any, dims: tuple[int, ...]) -> None:
    with pytest.raises(InvalidArgument, match=r"can not convert input 'x' to tensor.*expected \["):
        array(value, dims)


@pytest.mark.parametrize(
    ("value", "datatype", "expected"),
    [
        ("ü", Datatype.BYTES, ["ü".encode()]),
        (["a", ""], Datatype.BYTES, [b"a", b""]),
        (True, Datatype.BOOL, [True]),
        (255, Datatype.UINT8, [255]),
        (2**64 - 1, Datatype.UINT64, [2**64 - 1]),
        ([1, 2.5], Datatype.FP64, [1.0, 2.5]),
    ],
)
def test_every_type_that_json_can_carry_is_taken(
    value: Any, datatype: Datatype, expected: list[Any]
) -> None:
    assert array(value, (-1,), datatype).tolist() == expected


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ([1], "request: expected a JSON object, got"),
        ({"id": 5}, "id: expected a string, got 5"),
        ({"n": "x"}, "n: expected integers from -2147483648 to 2147483647 for INT32, got 'x'"),
        ({"n": 2**31}, "n: expected integers"),
        ({"n": 1.5}, "n: expected integers"),
        ({"n": None}, "n: expected integers .* got null"),
        ({"n": [[1], [2, 3]]}, "n: expected"),
        ({"text_input": 5}, "text_input: expected strings for BYTES, got 5"),
        ({"text_input": {"a": 1}}, "text_input: expected strings for BYTES"),
        ({"stream": 1}, "stream: expected booleans for BOOL, got 1"),
        ({"other": [1]}, r"parameters.other: expected a string, .* got \[1\]"),
        ({"other": None}, "parameters.other: expected"),
        ({"triton_x": 1}, "parameters.triton_x: the name is reserved"),
        ({"parameters": 5}, "parameters: expected a JSON object, got 5"),
        ({"n": 1, "parameters": {"n": 2}}, "parameters.n: 'n' already exists in request"),
        ({"k": 1, "parameters": {"k": 2}}, "parameters.k: 'k' already exists in request"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(document: Any, expected: str) -> None:
    with pytest.raises(InvalidArgument, match=f"^{expected}"):
        decode(document)


@pytest.mark.parametrize("body", [b"", b"{", b'{"n": 1, "n": 2}', b"\xff"])
def test_what_is_not_json_is_refused(body: bytes) -> None:
    with pytest.raises(ServingError, match="failed to parse the request JSON buffer"):
        generate.decode("m", "", body, [NUMBERS])


def test_fp16_has_no_place_in_json() -> None:
    with pytest.raises(InvalidArgument, match="FP16"):
        array([1.0], (-1,), Datatype.FP16)
    with pytest.raises(InvalidArgument, match="output 'y': JSON cannot carry this FP16"):
        encode(output([1.0], Datatype.FP16))


@pytest.mark.parametrize(
    ("tensor", "expected"),
    [
        (output([5]), 5),
        (output([[5]]), 5),
        (output([1, 2]), [1, 2]),
        (output([[1, 2], [3, 4]]), [1, 2, 3, 4]),
        (output([]), []),
        (output([1.5], Datatype.FP32), 1.5),
        (output([1.5, 2.5], Datatype.FP64), [1.5, 2.5]),
        (output([True], Datatype.BOOL), True),
        (output([b'a"b'], Datatype.BYTES), 'a"b'),
        (output([b"a", b"b"], Datatype.BYTES), ["a", "b"]),
    ],
)
def test_outputs_are_lists_and_single_elements_are_not(tensor: Tensor, expected: Any) -> None:
    assert encode(tensor) == {"model_name": "m", "model_version": "2", "y": expected}


def test_numbers_that_are_not_finite_are_named() -> None:
    assert b'"y":NaN' in generate.encode(
        InferenceResponse("m", "2", (output([np.nan], Datatype.FP32),))
    )


def test_the_id_and_parameters_of_the_response_come_back() -> None:
    assert encode(id="7", reason="stop") == {
        "id": "7",
        "model_name": "m",
        "model_version": "2",
        "reason": "stop",
    }


def test_an_event_is_one_line_of_data() -> None:
    assert generate.event(b'{"y":1}') == b'data: {"y":1}\n\n'


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=8,
)


@given(
    st.dictionaries(st.sampled_from(["text_input", "n", "stream", "id", "parameters", "k"]), _JSON)
)
def test_any_document_is_decoded_or_refused(document: Any) -> None:
    try:
        request = decode(document)
    except ServingError:
        return
    assert {tensor.name for tensor in request.inputs} <= {"text_input", "n", "stream"}


@given(
    st.lists(st.integers(-(2**31), 2**31 - 1), max_size=24),
    st.lists(st.sampled_from([-1, 1, 2, 3]), min_size=1, max_size=4),
)
def test_every_shape_holds_the_elements_and_fits_the_dims(
    values: list[int], dims: list[int]
) -> None:
    try:
        made = array(values, tuple(dims))
    except InvalidArgument:
        return
    assert made.reshape(-1).tolist() == values
    assert all(dim in (-1, size) for dim, size in zip(dims, made.shape, strict=True))
