"""What one side encodes, the other decodes, for every datatype, shape and protocol."""

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from tritonclient.grpc import service_pb2

from serving.dtypes import Datatype
from serving.types import InferenceRequest, InferenceResponse
from serving.wire import proto, rest, rest_answers
from tests.serving.wire.tensors import JSON_DATATYPES, assert_same, responses, tensor

CONTENTS = {
    "BOOL": "bool_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}


def assert_carried(request: InferenceRequest, response: InferenceResponse) -> None:
    """The request's inputs are the response's outputs."""
    assert [(t.name, t.datatype) for t in request.inputs] == [
        (t.name, t.datatype) for t in response.outputs
    ]
    for actual, expected in zip(request.inputs, response.outputs, strict=True):
        assert_same(actual.array, expected.array)


def returned_over_rest(
    response: InferenceResponse, encoding: rest_answers.OutputEncoding
) -> InferenceRequest:
    """The outputs of an encoded response, sent back as the inputs of a request."""
    buffers, json_length = rest_answers.encode_infer(response, encoding)
    body = b"".join(buffers)
    end = len(body) if json_length is None else json_length
    document = json.loads(body[:end])
    header = json.dumps({"id": document.get("id", ""), "inputs": document["outputs"]}).encode()
    request, _ = rest.decode_infer("m", "", header + body[end:], len(header))
    return request


def to_contents(response: InferenceResponse) -> Any:
    """A request whose inputs are the response's outputs as typed contents."""
    message = service_pb2.ModelInferRequest(model_name="m")
    for output in response.outputs:
        wire = output.datatype.wire
        item = message.inputs.add(name=output.name, datatype=wire, shape=output.array.shape)
        getattr(item.contents, CONTENTS[wire]).extend(output.array.ravel().tolist())
    return message


@settings(max_examples=200)
@given(responses(JSON_DATATYPES, text_only=True))
def test_every_tensor_survives_json(response: InferenceResponse) -> None:
    assert_carried(returned_over_rest(response, rest_answers.ALL_JSON), response)


@settings(max_examples=200)
@given(responses(list(Datatype), text_only=False))
def test_every_tensor_survives_the_binary_extension(response: InferenceResponse) -> None:
    request = returned_over_rest(response, rest_answers.ALL_BINARY)
    assert_carried(request, response)
    assert request.id == response.id


@settings(max_examples=200)
@given(responses(list(Datatype), text_only=False))
def test_every_tensor_survives_raw_protobuf_contents(response: InferenceResponse) -> None:
    answer = proto.encode_infer(response)
    message = service_pb2.ModelInferRequest(raw_input_contents=answer.raw_output_contents)
    for output in answer.outputs:
        message.inputs.add(name=output.name, datatype=output.datatype, shape=output.shape)
    assert_carried(proto.decode_infer(message), response)


@settings(max_examples=200)
@given(responses(JSON_DATATYPES, text_only=False))
def test_every_tensor_survives_typed_protobuf_contents(response: InferenceResponse) -> None:
    assert_carried(proto.decode_infer(to_contents(response)), response)


@pytest.mark.parametrize(
    ("datatype", "values"),
    [
        (Datatype.UINT64, [0, 2**64 - 1, 2**53 + 1, 2**63]),
        (Datatype.INT64, [-(2**63), 2**63 - 1, 2**53 + 1, -(2**53) - 1]),
        (Datatype.FP64, [5e-324, 1.7976931348623157e308, -0.0, float("nan"), float("-inf")]),
        (Datatype.FP32, [1e-45, 3.4028235e38, 0.1, float("inf"), float("nan")]),
        (Datatype.BOOL, [True, False]),
    ],
)
def test_extreme_values_are_exact_in_json(datatype: Datatype, values: list[Any]) -> None:
    response = InferenceResponse("m", "1", (tensor("x", datatype, values),))
    assert_carried(returned_over_rest(response, rest_answers.ALL_JSON), response)


def test_a_transposed_output_is_sent_in_row_major_order() -> None:
    output = tensor("x", Datatype.INT32, [[1, 2, 3], [4, 5, 6]])
    turned = InferenceResponse("m", "1", (tensor("x", Datatype.INT32, output.array.T),))
    assert not turned.outputs[0].array.flags["C_CONTIGUOUS"]
    for encoding in (rest_answers.ALL_JSON, rest_answers.ALL_BINARY):
        assert_carried(returned_over_rest(turned, encoding), turned)
    raw = proto.encode_infer(turned).raw_output_contents
    assert raw[0] == np.array([1, 4, 2, 5, 3, 6], np.int32).tobytes()


def test_binary_inputs_are_not_copied() -> None:
    header = json.dumps(
        {
            "inputs": [
                {
                    "name": "x",
                    "shape": [4],
                    "datatype": "UINT8",
                    "parameters": {"binary_data_size": 4},
                }
            ]
        }
    ).encode()
    body = bytearray(header + b"\1\2\3\4")
    request, _ = rest.decode_infer("m", "", memoryview(body), len(header))
    body[-1] = 9
    assert request.inputs[0].array.tolist() == [1, 2, 3, 9]
