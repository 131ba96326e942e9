"""Whatever arrives, decoding ends in a request or in a ServingError."""

import contextlib
import copy
import json
from collections.abc import Callable
from typing import Any

import numpy as np
from google.protobuf.message import DecodeError
from hypothesis import given, settings
from hypothesis import strategies as st
from tritonclient.grpc import service_pb2

from serving.dtypes import Datatype
from serving.errors import ServingError
from serving.types import TensorSpec
from serving.wire import proto, rest

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["x", "INT32", "BYTES", "FP32", [2, 2], [0], [2**63], [[1, 2], [3, 4]]]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["name", "shape", "datatype", "data", "parameters", "binary_data_size"])
            | st.text(max_size=3),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)
VALID: dict[str, Any] = {
    "id": "r",
    "parameters": {"sequence_id": 1, "binary_data_output": True, "mine": 0.5},
    "inputs": [
        {"name": "a", "shape": [2, 2], "datatype": "INT8", "data": [[1, 2], [3, 4]]},
        {"name": "b", "shape": [1], "datatype": "BYTES", "data": ["text"]},
        {
            "name": "c",
            "shape": [2],
            "datatype": "FP32",
            "parameters": {"binary_data_size": 8},
        },
        {
            "name": "d",
            "shape": [2],
            "datatype": "BYTES",
            "parameters": {"binary_data_size": 9},
        },
    ],
    "outputs": [{"name": "y", "parameters": {"binary_data": True, "classification": 2}}],
}
BINARY = np.array([1, 2], "<f4").tobytes() + b"\1\0\0\0a\0\0\0\0"


def only_serving_errors(decode: Callable[[], Any]) -> None:
    with contextlib.suppress(ServingError):
        decode()


def paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to every member of every object and list."""
    members = value.items() if isinstance(value, dict) else enumerate(value)
    found = []
    for key, member in members:
        found.append((*path, key))
        if isinstance(member, dict | list):
            found += paths(member, (*path, key))
    return found


def changed(path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    """The valid request with another value at `path`."""
    document = copy.deepcopy(VALID)
    place: Any = document
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return document


def valid_message() -> Any:
    message = service_pb2.ModelInferRequest(model_name="m", id="r")
    message.parameters["sequence_id"].int64_param = 3
    item = message.inputs.add(name="a", datatype="INT8", shape=[2])
    item.contents.int_contents.extend([1, 2])
    message.outputs.add(name="y").parameters["classification"].int64_param = 2
    return message


def test_the_request_that_is_changed_below_is_valid() -> None:
    header = json.dumps(VALID).encode()
    request, _ = rest.decode_infer("m", "", header + BINARY, len(header))
    assert request.inputs[3].array.tolist() == [b"a", b""]
    assert len(proto.decode_infer(valid_message()).inputs) == 1


@settings(max_examples=150)
@given(st.binary(max_size=200), st.none() | st.integers(0, 200))
def test_arbitrary_bytes_over_rest(body: bytes, header_length: int | None) -> None:
    only_serving_errors(lambda: rest.decode_infer("m", "", body, header_length))


@settings(max_examples=150)
@given(values)
def test_arbitrary_json_over_rest(value: Any) -> None:
    # Python's surrogates are escaped, so that they arrive as a client might send them.
    only_serving_errors(lambda: rest.decode_infer("m", "", json.dumps(value).encode()))


@settings(max_examples=200)
@given(st.sampled_from(paths(VALID)), values)
def test_a_valid_request_with_any_value_changed(path: tuple[Any, ...], value: Any) -> None:
    header = json.dumps(changed(path, value)).encode()
    only_serving_errors(lambda: rest.decode_infer("m", "", header + BINARY, len(header)))


@settings(max_examples=200)
@given(st.data())
def test_a_valid_request_with_any_bytes_replaced(data: st.DataObject) -> None:
    header = json.dumps(VALID).encode()
    body = header + BINARY
    start = data.draw(st.integers(0, len(body)))
    end = data.draw(st.integers(start, min(start + 8, len(body))))
    piece = data.draw(
        st.binary(max_size=8) | st.sampled_from([b"NaN", b'"', b"\\ud800", b"[[", b"-"])
    )
    mutated = body[:start] + piece + body[end:]
    only_serving_errors(lambda: rest.decode_infer("m", "", mutated, len(header)))


@settings(max_examples=150)
@given(
    st.binary(max_size=40),
    st.lists(
        st.builds(
            TensorSpec,
            st.just("x"),
            st.sampled_from(Datatype),
            st.lists(st.integers(-1, 3), max_size=4).map(tuple),
        ),
        max_size=2,
    ),
    st.integers(0, 4),
)
def test_arbitrary_raw_requests(body: bytes, specs: list[TensorSpec], max_batch_size: int) -> None:
    only_serving_errors(lambda: rest.decode_raw_infer("m", "", body, specs, max_batch_size))


@settings(max_examples=200)
@given(st.data())
def test_a_valid_message_with_any_bytes_replaced(data: st.DataObject) -> None:
    content = valid_message().SerializeToString()
    start = data.draw(st.integers(0, len(content)))
    end = data.draw(st.integers(start, min(start + 4, len(content))))
    content = content[:start] + data.draw(st.binary(max_size=6)) + content[end:]
    try:
        message = service_pb2.ModelInferRequest.FromString(content)
    except DecodeError:
        return
    only_serving_errors(lambda: proto.decode_infer(message))


@settings(max_examples=150)
@given(
    st.sampled_from([*(datatype.value for datatype in Datatype), "", "int32"]),
    st.lists(st.integers(-2, 4) | st.integers(-(2**63), 2**63 - 1), max_size=4),
    st.lists(st.binary(max_size=12), max_size=2),
    st.dictionaries(
        st.sampled_from(["int_contents", "uint64_contents", "fp32_contents", "bytes_contents"]),
        st.integers(0, 5),
        max_size=2,
    ),
)
def test_arbitrary_messages(
    datatype: str, shape: list[int], raw: list[bytes], contents: dict[str, int]
) -> None:
    message = service_pb2.ModelInferRequest(model_name="m", raw_input_contents=raw)
    item = message.inputs.add(name="x", datatype=datatype, shape=shape)
    for name, count in contents.items():
        getattr(item.contents, name).extend([b"" if name == "bytes_contents" else 0] * count)
    only_serving_errors(lambda: proto.decode_infer(message))
