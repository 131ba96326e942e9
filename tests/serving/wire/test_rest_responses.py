"""What a REST inference response looks like."""

import json
from typing import Any

import numpy as np
import pytest

from serving.dtypes import Datatype
from serving.errors import InvalidArgument
from serving.types import InferenceResponse, Tensor
from serving.wire import json_tensors, rest_answers
from tests.serving.wire.tensors import tensor


def encoded(response: InferenceResponse, binary: bool = False) -> tuple[Any, bytes]:
    """The JSON of an encoded response, and the bytes behind it."""
    buffers, size = rest_answers.encode_infer(response, rest_answers.OutputEncoding(binary))
    body = b"".join(buffers)
    end = len(body) if size is None else size
    return json.loads(body[:end]), body[end:]


def test_a_json_response_has_flat_data_and_no_header_length() -> None:
    output = tensor("out", Datatype.FP32, [[0.5, 0.1]])
    response = InferenceResponse("m", "7", (output,), id="r1", parameters={"k": True})
    buffers, size = rest_answers.encode_infer(response, rest_answers.ALL_JSON)
    assert size is None
    assert b"".join(buffers) == (
        b'{"id":"r1","model_name":"m","model_version":"7","parameters":{"k":true},"outputs":'
        b'[{"name":"out","datatype":"FP32","shape":[1,2],"data":[0.5,0.1]}]}'
    )


def test_binary_outputs_follow_the_json_in_listed_order() -> None:
    outputs = (tensor("a", Datatype.UINT8, [1, 2]), tensor("b", Datatype.INT16, [3]))
    document, binary = encoded(InferenceResponse("m", "1", outputs), binary=True)
    sizes = [output["parameters"] for output in document["outputs"]]
    assert sizes == [{"binary_data_size": 2}, {"binary_data_size": 2}]
    assert all("data" not in output for output in document["outputs"])
    assert binary == b"\1\2\3\0"


def test_an_id_that_was_not_given_is_not_sent() -> None:
    document, _ = encoded(InferenceResponse("m", "1", ()))
    assert document == {"model_name": "m", "model_version": "1", "outputs": []}


def test_numbers_that_are_not_finite_are_named() -> None:
    values = [np.nan, 1.5, np.inf, -np.inf, 0.1]
    buffers, _ = rest_answers.encode_infer(
        InferenceResponse("m", "1", (tensor("x", Datatype.FP32, values),)), rest_answers.ALL_JSON
    )
    assert b'"data":[NaN,1.5,Infinity,-Infinity,0.1]' in buffers[0]


@pytest.mark.parametrize("piece", [1, 2, 3, 5, 6])
def test_what_is_written_in_pieces_is_the_same(monkeypatch: pytest.MonkeyPatch, piece: int) -> None:
    monkeypatch.setattr(json_tensors, "_PIECE", piece)
    data = tensor("out", Datatype.FP32, [[1.5, np.nan], [0.1, -2.0], [3.0, 4.0]])
    assert json_tensors.text(data) == b"[1.5,NaN,0.1,-2.0,3.0,4.0]"


def test_bytes_elements_are_length_prefixed() -> None:
    output = Tensor("x", Datatype.BYTES, np.array([b"ab", b""], object))
    _, binary = encoded(InferenceResponse("m", "1", (output,)), binary=True)
    assert binary == b"\2\0\0\0ab\0\0\0\0"


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        (tensor("x", Datatype.FP16, [1.0]), "JSON cannot carry FP16"),
        (tensor("x", Datatype.BF16, [1]), "JSON cannot carry BF16"),
        (Tensor("x", Datatype.BYTES, np.array([b"\xff"], object)), "its bytes are not UTF-8"),
    ],
)
def test_what_json_cannot_carry_says_to_ask_for_binary(output: Tensor, reason: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        encoded(InferenceResponse("m", "1", (output,)))
    assert caught.value.message == (
        f"output 'x': {reason}; ask for it with the parameter binary_data true"
    )
