"""A client's messages: what one side writes the other reads, bit by bit."""

from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2

from serving.dtypes import Datatype
from serving.errors import Internal
from serving.types import (
    Array,
    InferenceRequest,
    InferenceResponse,
    LoadOverride,
    Parameter,
    RequestedOutput,
    Tensor,
)
from serving.wire import proto, proto_client
from serving.wire import repository_requests as repository

VALUES: dict[Datatype, Array] = {
    datatype: np.array([[0, 1], [1, 0]]).astype(datatype.numpy)
    for datatype in Datatype
    if datatype.itemsize
} | {Datatype.BYTES: np.array([[b"", b"\xff\x00"], [b"text", b"long" * 99]], object)}

PARAMETERS = st.dictionaries(
    st.text(min_size=1, max_size=9).filter(lambda name: not name.startswith("triton_")),
    st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.text(max_size=9),
    max_size=3,
).filter(lambda given: given.keys().isdisjoint({"headers", "priority", "timeout"}))


def tensors(values: Mapping[Datatype, Array] = VALUES) -> tuple[Tensor, ...]:
    return tuple(Tensor(kind.wire, kind, array) for kind, array in values.items())


def assert_same(actual: Sequence[Tensor], expected: Sequence[Tensor]) -> None:
    for one, other in zip(actual, expected, strict=True):
        assert (one.name, one.datatype) == (other.name, other.datatype)
        np.testing.assert_array_equal(one.array, other.array)


@given(parameters=PARAMETERS, classes=st.integers(0, 2**31))
def test_a_server_reads_the_request_that_was_meant(
    parameters: dict[str, Parameter], classes: int
) -> None:
    outputs = RequestedOutput("a"), RequestedOutput("b", classes)
    meant = InferenceRequest("m", tensors(), "7", "id", outputs, parameters)
    read = proto.decode_infer(proto_client.encode_request(meant))
    assert_same(read.inputs, meant.inputs)
    assert (read.model, read.version, read.id, read.outputs) == ("m", "7", "id", outputs)
    assert read.parameters == parameters


@pytest.mark.parametrize("name", ["sequence_id", "timeout"])
@pytest.mark.parametrize("value", [1, 2**63 - 1, 2**63, 2**64 - 1])
def test_a_large_integer_of_the_protocol_goes_as_triton_takes_it(name: str, value: int) -> None:
    message = proto_client.encode_request(InferenceRequest("m", (), parameters={name: value}))
    assert message.parameters[name].WhichOneof("parameter_choice") == "int64_param"
    assert proto.decode_infer(message).parameters == {name: value}


def test_a_large_integer_of_the_models_own_goes_as_the_double_that_triton_makes_of_it() -> None:
    given = InferenceRequest("m", (), parameters={"mine": 2**63, "priority": 2**63})
    message = proto_client.encode_request(given)
    assert message.parameters["mine"].double_param == 2**63
    assert message.parameters["priority"].uint64_param == 2**63


def test_a_stream_is_asked_to_tell_its_end_whatever_the_client_wants() -> None:
    name = "triton_enable_empty_final_response"
    meant = InferenceRequest("m", (), parameters={name: False})
    assert proto_client.encode_request(meant, is_streamed=True).parameters[name].bool_param
    assert name not in proto_client.encode_request(meant).parameters


@given(parameters=PARAMETERS)
def test_the_response_is_read_that_a_server_gave(parameters: dict[str, Parameter]) -> None:
    given_ = InferenceResponse("m", "7", tensors(), "id", parameters)
    read = proto_client.decode_response(proto.encode_infer(given_))
    assert_same(read.outputs, given_.outputs)
    assert (read.model, read.version, read.id) == ("m", "7", "id")
    assert (read.parameters, read.is_last) == (parameters, False)


def test_the_last_response_says_so() -> None:
    message = service_pb2.ModelInferResponse(model_name="m")
    message.parameters["triton_final_response"].bool_param = True
    read = proto_client.decode_response(message)
    assert (read.is_last, dict(read.parameters)) == (True, {})


@pytest.mark.parametrize(
    ("datatype", "content"),
    [("FP32", [b"1234", b"1234"]), ("FP32", []), ("FP32", [b"123"]), ("FP99", [b"1234"])],
)
def test_an_answer_that_contradicts_itself_is_the_servers_fault(
    datatype: str, content: list[bytes]
) -> None:
    message = service_pb2.ModelInferResponse(model_name="m", raw_output_contents=content)
    message.outputs.add(name="y", datatype=datatype, shape=[1])
    with pytest.raises(Internal, match=r"^m: "):
        proto_client.decode_response(message)


@pytest.mark.parametrize(
    "override",
    [LoadOverride(), LoadOverride("{}"), LoadOverride("{}", {"1/model.onnx": b"\x00\xff"})],
)
def test_a_load_says_what_it_brings(override: LoadOverride) -> None:
    message = proto_client.encode_load("m", override)
    assert message.model_name == "m"
    assert repository.load_from_proto(message) == override


@pytest.mark.parametrize("dependents", [False, True])
def test_an_unload_says_whether_the_parts_go_too(dependents: bool) -> None:
    message = proto_client.encode_unload("m", dependents)
    assert message.model_name == "m"
    assert repository.unload_from_proto(message) is dependents
