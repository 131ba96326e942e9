"""Requests say what the samples hold: the server's own decoders read them; answers are checked."""

from typing import Any

import numpy as np
import orjson
import pytest
from tritonclient.grpc import service_pb2

from serving.bench.client.answers import Checker
from serving.bench.client.messages import encode
from serving.bench.inputs import made_up
from serving.bench.model import Model, Unsuitable, describe
from serving.bench.plan import Protocol, Target
from serving.dtypes import Datatype
from serving.types import InferenceRequest, TensorSpec
from serving.wire import proto, rest

MODEL = Model(
    "m",
    inputs=(
        TensorSpec("image", Datatype.UINT8, (2, 3)),
        TensorSpec("text", Datatype.BYTES, (1,)),
        TensorSpec("flag", Datatype.BOOL, ()),
    ),
    outputs=(TensorSpec("scores", Datatype.FP32, (2,)),),
    rows=4,
)
SCORES = np.arange(8, dtype=np.float32).reshape(4, 2)


def target(protocol: Protocol) -> Target:
    return Target(protocol, "localhost", 8000, "m", headers={"Authorization": "Bearer x"})


def decoded(protocol: Protocol, message: bytes) -> InferenceRequest:
    if protocol is Protocol.GRPC:
        return proto.decode_infer(service_pb2.ModelInferRequest.FromString(message))
    head, _, body = message.partition(b"\r\n\r\n")
    first, *lines = head.decode().split("\r\n")
    headers = dict(line.split(": ") for line in lines)
    assert first == "POST /v2/models/m/infer HTTP/1.1"
    assert (headers["Content-Length"], headers["Authorization"]) == (str(len(body)), "Bearer x")
    length = headers.get("Inference-Header-Content-Length")
    return rest.decode_infer("m", "", body, int(length) if length else None)[0]


@pytest.mark.parametrize("protocol", Protocol)
def test_the_server_reads_what_the_sample_holds(protocol: Protocol) -> None:
    samples = made_up(MODEL, is_zero=False, string_length=5, seed=1)
    messages = encode(target(protocol), MODEL, samples, ["scores"], timeout=0.25)

    assert len(messages) == len(samples) > 1
    for sample, message in zip(samples, messages, strict=True):
        request = decoded(protocol, message)
        assert request.parameters["timeout"] == 250_000
        assert [output.name for output in request.outputs] == ["scores"]
        for sent, read in zip(sample.inputs, request.inputs, strict=True):
            assert (sent.name, sent.datatype) == (read.name, read.datatype)
            assert np.array_equal(sent.array, read.array)
            assert read.array.shape[0] == 4


@pytest.mark.parametrize("protocol", [Protocol.BINARY, Protocol.JSON])
def test_a_name_that_no_path_can_hold_is_quoted(protocol: Protocol) -> None:
    named = Target(protocol, "localhost", 8000, "a b/\u00df\u20ac", prefix="/of%20us")
    (message, *_) = encode(named, MODEL, made_up(MODEL, True, 0, 0), [], None)

    first = b"POST /of%20us/v2/models/a%20b%2F%C3%9F%E2%82%AC/infer HTTP/1.1\r\n"
    assert message.startswith(first)


def test_json_cannot_carry_halves() -> None:
    model = Model("m", (TensorSpec("x", Datatype.FP16, (1,)),), (), None)
    samples = made_up(model, is_zero=True, string_length=0, seed=0)

    with pytest.raises(Unsuitable, match="rest-binary or grpc"):
        encode(target(Protocol.JSON), model, samples, [], None)


def answer(protocol: Protocol, **changes: Any) -> tuple[bytes, int | None]:
    """An answer of `SCORES`, as its protocol has it, with other words where `changes` has some."""
    output = {"name": "scores", "datatype": "FP32", "shape": [4, 2]} | changes
    data = output.pop("data", SCORES.ravel().tolist())
    raw = np.array(data, np.float32).tobytes()
    if protocol is Protocol.GRPC:
        message = service_pb2.ModelInferResponse(raw_output_contents=[raw])
        message.outputs.add(**output)
        return message.SerializeToString(), None
    if protocol is Protocol.JSON:
        return orjson.dumps({"outputs": [output | {"data": data}]}), None
    output["parameters"] = {"binary_data_size": len(raw)}
    text = orjson.dumps({"outputs": [output]})
    return text + raw, len(text)


@pytest.mark.parametrize("protocol", Protocol)
@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({}, None),
        ({"name": "other"}, "no output 'scores'"),
        ({"datatype": "FP64"}, "expected FP32, got FP64"),
        ({"shape": [2, 4]}, "expected a batch of 4"),
        ({"data": [1.0]}, "for the shape [4, 2]"),
        ({"data": [9.0] * 8}, "other values than expected"),
        ({"datatype": "STRANGE"}, "unknown datatype"),
    ],
)
def test_an_answer_is_wrong_for_a_reason(
    protocol: Protocol, changes: dict[str, Any], told: str | None
) -> None:
    check = Checker(protocol, MODEL, [{"scores": SCORES}])
    wrong = check(0, *answer(protocol, **changes))

    assert wrong is None if told is None else wrong is not None and told in wrong


@pytest.mark.parametrize("protocol", Protocol)
def test_what_is_no_answer_is_told(protocol: Protocol) -> None:
    wrong = Checker(protocol, MODEL, [{}])(0, b"\xffnonsense", 4)

    assert wrong


def test_a_binary_answer_without_a_single_byte_has_no_header_of_its_length() -> None:
    empty = Model("m", (), (TensorSpec("scores", Datatype.FP32, (-1,)),), None)
    text, _ = answer(Protocol.BINARY, shape=[0], data=[])

    assert Checker(Protocol.BINARY, empty, [{}])(0, text, None) is None


def test_a_known_header_does_not_excuse_missing_bytes() -> None:
    check = Checker(Protocol.BINARY, MODEL, [{}])
    body, length = answer(Protocol.BINARY)

    assert check(0, body, length) is None
    assert check(0, body[:-4], length) is not None


def metadata(**changes: Any) -> dict[str, Any]:
    return {
        "name": "m",
        "inputs": [{"name": "x", "datatype": "FP32", "shape": ["-1", "-1", "3"]}],
        "outputs": [{"name": "y", "datatype": "FP32", "shape": [-1, 2]}],
    } | changes


def test_a_model_that_batches_has_rows_and_its_dims_without_them() -> None:
    model = describe(metadata(), {"max_batch_size": 8}, 4, {"x": (5, 3)}, [])

    assert (model.batch, model.inputs[0].dims, model.outputs[0].dims) == ((4,), (5, 3), (2,))


def test_without_a_configuration_a_variable_first_dimension_is_the_batch() -> None:
    assert describe(metadata(), None, 4, {}, []).rows == 4
    assert describe(metadata(), {}, 4, {}, []).rows == 4
    fixed = [{"name": "x", "datatype": "FP32", "shape": [2]}]
    assert describe(metadata(inputs=fixed), None, 1, {}, []).rows is None


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (({"max_batch_size": 8}, 9, {}, []), "takes at most 8 rows"),
        (({"max_batch_size": 0}, 2, {}, []), "does not batch"),
        (({"max_batch_size": 8}, 1, {"z": (1,)}, []), "no input 'z'"),
        (({"max_batch_size": 8}, 1, {"x": (5, 4)}, []), r"expected \[-1, 3\]"),
        (({"max_batch_size": 8}, 1, {}, ["z"]), "no output 'z'"),
        (({"max_batch_size": "many"}, 1, {}, []), 'configuration as .* {"max_batch_size": "many"}'),
        (({"input": None}, 1, {}, []), "configuration as Triton has it"),
        (({"input": [{"optional": True}]}, 1, {}, []), "configuration as Triton has it"),
        (({"parameters": []}, 1, {}, []), "configuration as Triton has it"),
    ],
)
def test_what_does_not_fit_the_model_is_told(arguments: tuple[Any, ...], told: str) -> None:
    with pytest.raises(Unsuitable, match=told):
        describe(metadata(), *arguments)


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"name": "m", "inputs": None, "outputs": None},
        {"name": "m", "inputs": [{"name": "x"}], "outputs": []},
        {"name": "m", "inputs": ["x"], "outputs": []},
    ],
)
def test_a_server_that_does_not_say_what_its_model_takes_is_told_of(document: Any) -> None:
    with pytest.raises(Unsuitable, match="does not say the model's name, inputs and outputs"):
        describe(document, None, 1, {}, [])


def test_a_model_that_splits_large_requests_is_sent_them() -> None:
    splits = {"split_large_requests": {"string_value": "True"}}
    model = describe(metadata(), {"max_batch_size": 8, "parameters": splits}, 9, {"x": (5, 3)}, [])
    assert model.rows == 9


def test_a_variable_dimension_has_to_be_given() -> None:
    model = describe(metadata(), {"max_batch_size": 8}, 1, {}, [])

    with pytest.raises(Unsuitable, match="--shape x:1,3"):
        made_up(model, is_zero=True, string_length=0, seed=0)
