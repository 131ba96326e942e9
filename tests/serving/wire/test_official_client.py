"""The official client's own encoder and decoder against ours."""

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from tritonclient import grpc as grpc_client
from tritonclient import http as http_client
from tritonclient.grpc import service_pb2
from tritonclient.grpc._utils import _get_inference_request

from serving.dtypes import Datatype
from serving.types import Array, InferenceRequest, InferenceResponse, RequestedOutput, Tensor
from serving.wire import proto, rest, rest_answers
from tests.serving.wire.tensors import JSON_DATATYPES, assert_same, responses, tensor

BINARY_AND_JSON = [(datatype, True) for datatype in Datatype] + [
    (datatype, False) for datatype in JSON_DATATYPES
]
build_body = http_client.InferenceServerClient.generate_request_body
parse_body = http_client.InferenceServerClient.parse_response_body


def sample(datatype: Datatype) -> Array:
    """A 2 x 2 array as the core holds it."""
    if datatype is Datatype.BYTES:
        return np.array([[b"", b"one"], ["zwölf".encode(), b"a\nb"]], object)
    return np.array([[0, 1], [1, 0]]).astype(datatype.numpy)


def for_client(datatype: Datatype, array: Array) -> Array:
    """The array as the client holds it: BF16 has a type of its own there."""
    return array.view(ml_dtypes.bfloat16) if datatype is Datatype.BF16 else array


def http_input(datatype: Datatype, array: Array, binary: bool) -> http_client.InferInput:
    item = http_client.InferInput("x", list(array.shape), datatype.wire)
    return item.set_data_from_numpy(for_client(datatype, array), binary_data=binary)


@pytest.mark.parametrize(("datatype", "binary"), BINARY_AND_JSON)
def test_its_http_inputs_are_understood(datatype: Datatype, binary: bool) -> None:
    array = sample(datatype)
    body, header_length = build_body([http_input(datatype, array, binary)])
    request, encoding = rest.decode_infer("m", "", body, header_length)
    assert request.inputs[0].datatype is datatype
    assert_same(request.inputs[0].array, array)
    # It names no outputs, so it asks for all of them as binary data.
    assert encoding.is_binary("anything")


@pytest.mark.parametrize("datatype", list(Datatype))
def test_its_grpc_inputs_are_understood(datatype: Datatype) -> None:
    array = sample(datatype)
    item = grpc_client.InferInput("x", array.shape, datatype.wire)
    item.set_data_from_numpy(for_client(datatype, array))
    message = service_pb2.ModelInferRequest(
        model_name="m", inputs=[item._get_tensor()], raw_input_contents=[item._get_content()]
    )
    assert_same(proto.decode_infer(message).inputs[0].array, array)


def test_its_http_options_are_understood() -> None:
    outputs = [
        http_client.InferRequestedOutput("a", binary_data=True),
        http_client.InferRequestedOutput("b", binary_data=False, class_count=3),
    ]
    body, header_length = build_body(
        [http_input(Datatype.FP32, np.zeros((1, 2), np.float32), binary=False)],
        outputs=outputs,
        request_id="r1",
        sequence_id=2**63,
        sequence_start=True,
        priority=4,
        timeout=500,
        parameters={"text": "t", "flag": True, "number": -1, "ratio": 0.5},
    )
    request, encoding = rest.decode_infer("m", "2", body, header_length)
    assert (request.model, request.version, request.id) == ("m", "2", "r1")
    assert request.outputs == (RequestedOutput("a"), RequestedOutput("b", classification=3))
    assert encoding.is_binary("a")
    assert not encoding.is_binary("b")
    assert request.parameters == {
        "sequence_id": 2**63,
        "sequence_start": True,
        "sequence_end": False,
        "priority": 4,
        "timeout": 500,
        "text": "t",
        "flag": True,
        "number": -1,
        "ratio": 0.5,
    }


def test_its_grpc_options_are_understood() -> None:
    item = grpc_client.InferInput("x", [1], "INT32")
    item.set_data_from_numpy(np.array([5], np.int32))
    message = _get_inference_request(
        model_name="m",
        inputs=[item],
        model_version="2",
        request_id="r1",
        outputs=[grpc_client.InferRequestedOutput("b", class_count=3)],
        sequence_id="s",
        sequence_start=False,
        sequence_end=True,
        priority=4,
        timeout=500,
        parameters={"text": "t", "flag": True, "number": -1, "ratio": 0.5},
    )
    request = proto.decode_infer(message, deadline=77)
    assert request == InferenceRequest(
        model="m",
        version="2",
        id="r1",
        inputs=request.inputs,
        outputs=(RequestedOutput("b", classification=3),),
        parameters={
            "sequence_id": "s",
            "sequence_start": False,
            "sequence_end": True,
            "priority": 4,
            "timeout": 500,
            "text": "t",
            "flag": True,
            "number": -1,
            "ratio": 0.5,
        },
        deadline=77,
    )


@pytest.mark.parametrize(("datatype", "binary"), BINARY_AND_JSON)
def test_it_understands_our_http_outputs(datatype: Datatype, binary: bool) -> None:
    array = sample(datatype)
    response = InferenceResponse("m", "1", (Tensor("x", datatype, array),), id="r1")
    buffers, header_length = rest_answers.encode_infer(
        response, rest_answers.OutputEncoding(binary)
    )
    result = parse_body(b"".join(buffers), header_length=header_length)
    expected = for_client(datatype, array)
    if datatype is Datatype.BYTES and not binary:
        expected = np.array([[element.decode() for element in row] for row in array], object)
    assert_same(result.as_numpy("x"), expected)
    assert result.get_response()["id"] == "r1"
    assert result.get_response()["model_version"] == "1"


@settings(max_examples=100)
@given(responses([d for d in Datatype if d is not Datatype.BF16], text_only=False))
def test_it_understands_our_binary_outputs_of_any_shape(response: InferenceResponse) -> None:
    buffers, header_length = rest_answers.encode_infer(response, rest_answers.ALL_BINARY)
    result = parse_body(b"".join(buffers), header_length=header_length)
    for output in response.outputs:
        assert_same(result.as_numpy(output.name), output.array)


@settings(max_examples=100)
@given(responses([d for d in Datatype if d is not Datatype.BF16], text_only=False))
def test_it_understands_our_grpc_outputs_of_any_shape(response: InferenceResponse) -> None:
    message = proto.encode_infer(response)
    result = grpc_client.InferResult(type(message).FromString(message.SerializeToString()))
    for output in response.outputs:
        assert_same(result.as_numpy(output.name), output.array)


def test_it_finds_binary_and_json_outputs_in_one_answer() -> None:
    outputs = tuple(tensor(name, Datatype.FP32, [1.5, 2.5]) for name in "abc")
    encoding = rest_answers.OutputEncoding(default=True, binary={"b": False})
    buffers, header_length = rest_answers.encode_infer(
        InferenceResponse("m", "1", outputs), encoding
    )
    result = parse_body(b"".join(buffers), header_length=header_length)
    for name in "abc":
        assert result.as_numpy(name).tolist() == [1.5, 2.5]
    assert "data" in result.get_output("b")
    assert result.get_output("c")["parameters"] == {"binary_data_size": 8}
