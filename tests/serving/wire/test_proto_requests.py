"""What a gRPC inference request may say, and the message for each thing it may not."""

from typing import Any

import pytest
from tritonclient.grpc import service_pb2

from serving.dtypes import Datatype
from serving.errors import InvalidArgument, ServingError, Unsupported
from serving.types import InferenceResponse
from serving.wire import proto
from tests.serving.wire.tensors import tensor


def message(
    datatype: str = "INT32",
    shape: tuple[int, ...] = (2,),
    raw: list[bytes] | None = None,
    **contents: Any,
) -> Any:
    """A request of one input `x`, its data raw or as typed contents."""
    request = service_pb2.ModelInferRequest(model_name="m", raw_input_contents=raw or [])
    item = request.inputs.add(name="x", datatype=datatype, shape=shape)
    for name, values in contents.items():
        getattr(item.contents, name).extend(values)
    return request


def refusal(request: Any) -> str:
    with pytest.raises(ServingError) as caught:
        proto.decode_infer(request)
    assert isinstance(caught.value, InvalidArgument)
    return caught.value.message


def with_parameter(name: str, **value: Any) -> Any:
    request = message(int_contents=[1, 2])
    parameter = request.parameters[name]
    for field, content in value.items():
        setattr(parameter, field, content)
    return request


def two_inputs(raw: list[bytes]) -> Any:
    request = message(raw=raw)
    request.inputs.add(name="y", datatype="INT32", shape=[1])
    return request


def same_name_twice(field: str) -> Any:
    request = message(int_contents=[1, 2])
    getattr(request, field).extend([getattr(request, field).add(name="x")])
    if field == "inputs":
        del request.inputs[1:]
        request.inputs.extend([request.inputs[0]])
    return request


def output_with(**parameter: Any) -> Any:
    request = message(int_contents=[1, 2])
    output = request.outputs.add(name="a")
    for field, content in parameter.items():
        setattr(output.parameters["classification"], field, content)
    return request


RESERVED = (
    "the name is reserved; 'headers' and parameter keys starting with 'triton_' are reserved for "
    "Triton usage and should not be specified."
)
REFUSED = [
    (
        message(shape=(-1, 2)),
        "inputs[0].shape: expected a list of non-negative integers, got [-1, 2]",
    ),
    (
        message(shape=(2**40, 2**40)),
        "inputs[0].shape: expected at most 9223372036854775807 bytes in all, "
        "got [1099511627776, 1099511627776]",
    ),
    (
        message(datatype=""),
        "inputs[0].datatype: unknown datatype ''; expected one of BOOL, UINT8, UINT16, UINT32, "
        "UINT64, INT8, INT16, INT32, INT64, FP16, FP32, FP64, BF16, BYTES",
    ),
    (
        message(),
        "[request id: <id_unknown>] input byte size mismatch for input 'x' for model 'm'. "
        "Expected 8, got 0",
    ),
    (
        message(int_contents=[1, 2, 3]),
        "[request id: <id_unknown>] input byte size mismatch for input 'x' for model 'm'. "
        "Expected 8, got 12",
    ),
    (
        message(fp32_contents=[1, 2]),
        "inputs[0].contents: expected int_contents for INT32, got fp32_contents",
    ),
    (
        message(int_contents=[1, 2], bytes_contents=[b""]),
        "inputs[0].contents: expected int_contents for INT32, got bytes_contents",
    ),
    (
        message("INT8", int_contents=[1, 128]),
        "inputs[0].contents.int_contents: expected integers from -128 to 127 for INT8, "
        "got 128 at element 1",
    ),
    (
        message("UINT16", uint_contents=[65536, 1]),
        "inputs[0].contents.uint_contents: expected integers from 0 to 65535 for UINT16, "
        "got 65536 at element 0",
    ),
    (
        message("FP16", fp32_contents=[1, 2]),
        "inputs[0].contents: expected raw_input_contents, since typed contents cannot carry FP16",
    ),
    (
        message("BF16"),
        "inputs[0].contents: expected raw_input_contents, since typed contents cannot carry BF16",
    ),
    (
        message("BYTES", bytes_contents=[b"a"]),
        "inputs[0].contents.bytes_contents: expected 2 elements for shape [2], got 1",
    ),
    (
        message(raw=[bytes(8)], int_contents=[1, 2]),
        "contents field must not be specified when using raw_input_contents for 'x' for model 'm'",
    ),
    (
        message(raw=[bytes(9)]),
        "[request id: <id_unknown>] input byte size mismatch for input 'x' for model 'm'. "
        "Expected 8, got 9",
    ),
    (
        two_inputs(raw=[bytes(8)]),
        "raw_input_contents: expected one for each of 2 inputs, got 1",
    ),
    (
        message(raw=[bytes(8), bytes(8)]),
        "raw_input_contents: expected one for each of 1 inputs, got 2",
    ),
    (same_name_twice("inputs"), "inputs[1].name: expected each name once, got 'x' again"),
    (same_name_twice("outputs"), "outputs[1].name: expected each name once, got 'x' again"),
    (with_parameter("mine"), "parameters.mine: expected a value, got none"),
    (
        with_parameter("timeout", double_param=0.5),
        "parameters.timeout: expected an unsigned 64-bit integer of microseconds, got 0.5",
    ),
    (
        with_parameter("sequence_start", int64_param=1),
        "parameters.sequence_start: expected a boolean, got 1",
    ),
    (with_parameter("triton_x", bool_param=True), f"parameters.triton_x: {RESERVED}"),
    (with_parameter("headers", string_param="x"), f"parameters.headers: {RESERVED}"),
    (
        output_with(string_param="3"),
        "outputs[0].parameters.classification: expected a non-negative integer, got '3'",
    ),
    (
        output_with(int64_param=-3),
        "outputs[0].parameters.classification: expected a non-negative integer, got -3",
    ),
]


@pytest.mark.parametrize(("request_message", "text"), REFUSED, ids=[t[:60] for _, t in REFUSED])
def test_a_fault_is_named_as_over_rest(request_message: Any, text: str) -> None:
    assert refusal(request_message) == text


@pytest.mark.parametrize("field", ["inputs", "outputs"])
def test_shared_memory_is_refused_as_unsupported(field: str) -> None:
    request = message(int_contents=[1, 2])
    item = request.inputs[0] if field == "inputs" else request.outputs.add(name="a")
    item.parameters["shared_memory_region"].string_param = "r"
    with pytest.raises(Unsupported, match=rf"^{field}\[0\]\.parameters\.shared_memory_region: "):
        proto.decode_infer(request)


@pytest.mark.parametrize("name", ["sequence_id", "timeout"])
def test_64_bits_of_an_int64_param_are_unsigned_where_the_protocol_means_them_so(name: str) -> None:
    request = with_parameter(name, int64_param=-1)
    assert proto.decode_infer(request).parameters == {name: 2**64 - 1}


def test_whether_the_end_shall_be_told_is_yes_or_no() -> None:
    request = with_parameter("triton_enable_empty_final_response", string_param="yes")
    with pytest.raises(InvalidArgument, match="expected bool_param"):
        proto.decode_infer(request)


def test_a_stream_may_ask_for_an_empty_final_response() -> None:
    request = with_parameter("triton_enable_empty_final_response", bool_param=True)
    assert proto.decode_infer(request).parameters == {"triton_enable_empty_final_response": True}


@pytest.mark.parametrize("value", [True, 0, -(2**63), 2**63, 2**64 - 1, 0.5, "", "text"])
def test_a_response_carries_parameters_of_every_type(value: Any) -> None:
    response = InferenceResponse("m", "1", (), parameters={"p": value})
    answer = proto.encode_infer(response)
    request = service_pb2.ModelInferRequest(parameters=answer.parameters)
    carried = proto.decode_infer(request).parameters["p"]
    assert carried == value
    assert type(carried) is type(value)


def test_a_response_says_who_answered() -> None:
    output = tensor("out", Datatype.UINT8, [[1, 2]])
    answer = proto.encode_infer(InferenceResponse("m", "7", (output,), id="r1"))
    assert (answer.model_name, answer.model_version, answer.id) == ("m", "7", "r1")
    assert answer.outputs[0].datatype == "UINT8"
    assert list(answer.outputs[0].shape) == [1, 2]
    assert list(answer.raw_output_contents) == [b"\1\2"]
