"""Infer messages with known beginnings are read and written as the whole ones are."""

from typing import Any

import numpy as np
import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from msgspec.structs import replace
from tritonclient.grpc import service_pb2

from serving.dtypes import Datatype
from serving.errors import InvalidArgument
from serving.types import InferenceResponse, Tensor
from serving.wire import proto, proto_fast, raw_tensors
from tests.serving.wire.tensors import assert_same, responses


def message(response: InferenceResponse) -> Any:
    """A request whose inputs are the response's outputs."""
    request = service_pb2.ModelInferRequest(model_name=response.model, model_version="3")
    for output in response.outputs:
        wire = output.datatype.wire
        request.inputs.add(name=output.name, datatype=wire, shape=output.array.shape)
        request.raw_input_contents.append(bytes(raw_tensors.encode(output)))
        request.outputs.add(name=f"{output.name}-out")
    return request


def images(value: float, size: int = 700) -> Any:
    return message(
        InferenceResponse(
            "m", "1", (Tensor("x", Datatype.FP32, np.full((1, size), value, np.float32)),)
        )
    )


def read_again(content: bytes) -> Any:
    """What is read of a message that has come before."""
    for _ in range(2):
        proto_fast.read(content)
    return proto_fast.read(content)


@given(responses(list(Datatype), text_only=False))
def test_a_repeated_request_is_what_the_whole_message_says(response: InferenceResponse) -> None:
    whole = message(response)
    read = read_again(whole.SerializeToString())
    assert isinstance(read, proto_fast.Repeated) == (len(response.outputs) > 0)
    request, places = proto_fast.decode(read, None, 7)
    expected = proto.decode_infer(whole, 7)
    assert not places
    assert (request.model, request.version, request.outputs, request.deadline) == (
        expected.model,
        expected.version,
        expected.outputs,
        expected.deadline,
    )
    assert [(t.name, t.datatype) for t in request.inputs] == [
        (t.name, t.datatype) for t in expected.inputs
    ]
    for mine, theirs in zip(request.inputs, expected.inputs, strict=True):
        assert_same(mine.array, theirs.array)


@given(responses(list(Datatype), text_only=False))
def test_an_answer_is_written_as_the_whole_message_would_be(response: InferenceResponse) -> None:
    for one in (response, replace(response, id=""), replace(response, id="")):
        written = service_pb2.ModelInferResponse.FromString(proto_fast.encode(one, {}))
        assert written == proto.encode_infer(one)


def test_other_bytes_behind_the_same_beginning_are_the_ones_that_are_read() -> None:
    assert isinstance(read_again(images(1).SerializeToString()), proto_fast.Repeated)
    read = proto_fast.read(images(2).SerializeToString())
    assert isinstance(read, proto_fast.Repeated)
    request, _ = proto_fast.decode(read, None, None)
    assert set(request.inputs[0].array.ravel()) == {2.0}


@pytest.mark.parametrize("name", ["id", "a parameter", "of an input", "of an output", "contents"])
def test_what_is_not_usual_is_read_whole(name: str) -> None:
    whole = images(3)
    match name:
        case "id":
            whole.id = "7"
        case "a parameter":
            whole.parameters["priority"].int64_param = 1
        case "of an input":
            whole.inputs[0].parameters["shared_memory_region"].string_param = "r"
        case "of an output":
            whole.outputs[0].parameters["classification"].int64_param = 1
        case "contents":
            whole.ClearField("raw_input_contents")
            whole.inputs[0].contents.fp32_contents.append(1)
    assert read_again(whole.SerializeToString()) == whole


def test_more_behind_a_known_beginning_is_not_overlooked() -> None:
    content = images(4).SerializeToString()
    assert isinstance(read_again(content), proto_fast.Repeated)
    later = service_pb2.ModelInferRequest(model_name="other").SerializeToString()
    assert proto_fast.read(content + later).model_name == "other"
    twice = images(4)
    twice.raw_input_contents.append(b"more")
    assert proto_fast.read(twice.SerializeToString()) == twice


@pytest.mark.parametrize("name", ["long length", "inputs first", "inputs amid", "field behind"])
def test_an_unusual_order_or_length_is_read_however_often_it_comes(name: str) -> None:
    whole = images(1)
    whole.model_name = name  # a beginning that no other test has made known
    raw = whole.raw_input_contents[0]
    whole.ClearField("raw_input_contents")
    rest = whole.SerializeToString()
    data = b"\x3a\xf0\x15" + raw
    content = {
        "long length": rest + b"\x3a\xf0\x95\x00" + raw,
        "inputs first": data + rest,
        "inputs amid": rest[: 2 + len(name)] + data + rest[2 + len(name) :],
        "field behind": rest + data + b"\xf8\x3f\x01",  # that nobody knows
    }[name]
    for _ in range(4):
        request, _ = proto_fast.decode(proto_fast.read(content), None, None)
        assert request.model == name
        assert request.inputs[0].array.tobytes() == raw


@pytest.mark.parametrize("end", [1, 2, 3, 100])
def test_a_known_beginning_without_all_that_belongs_to_it_is_no_message(end: int) -> None:
    content = images(5).SerializeToString()
    assert isinstance(read_again(content), proto_fast.Repeated)
    with pytest.raises(DecodeError):
        proto_fast.read(content[:-end])


def test_bytes_that_do_not_fill_the_tensor_are_refused_in_the_same_words() -> None:
    assert isinstance(read_again(images(6).SerializeToString()), proto_fast.Repeated)
    short = images(6)
    short.raw_input_contents[0] = b"1234"
    with pytest.raises(InvalidArgument) as whole:
        proto.decode_infer(short)
    with pytest.raises(InvalidArgument) as repeated:
        proto_fast.decode(proto_fast.read(short.SerializeToString()), None, None)
    assert repeated.value.message == whole.value.message


def test_a_request_that_is_refused_is_refused_each_time() -> None:
    wrong = images(8)
    wrong.inputs[0].datatype = "FP31"
    for _ in range(4):
        with pytest.raises(InvalidArgument, match="FP31"):
            proto_fast.decode(proto_fast.read(wrong.SerializeToString()), None, None)


def test_beginnings_that_never_come_again_do_not_add_up() -> None:
    for size in range(1, 500):
        read_again(images(0, size).SerializeToString())
    assert len(proto_fast._KNOWN) <= 64
    assert len(proto_fast._LENGTHS) <= 8
