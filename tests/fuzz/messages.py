"""Requests over gRPC, and tensors in shared memory over both protocols."""

import json
import os
import random
import tempfile
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import numpy as np
from google.protobuf.message import DecodeError
from tritonclient.grpc import service_pb2

from serving.errors import InvalidArgument
from serving.shared_memory import CopiedRegion, Region, Regions
from serving.types import InferenceRequest
from serving.wire import proto, proto_fast, rest
from tests.fuzz.fuzzer import Target
from tests.fuzz.structure import in_json, in_message
from tests.fuzz.vocabulary import DATATYPES, JSON_WORDS


def _message(**fields: Any) -> Any:
    return service_pb2.ModelInferRequest(model_name="m", **fields)


def _proto_seeds() -> list[bytes]:
    typed = {
        "BOOL": ("bool_contents", [True, False]),
        "INT32": ("int_contents", [1, -2]),
        "INT64": ("int64_contents", [1, -(2**60)]),
        "UINT8": ("uint_contents", [1, 255]),
        "UINT64": ("uint64_contents", [1, 2**64 - 1]),
        "FP32": ("fp32_contents", [0.5, float("nan")]),
        "FP64": ("fp64_contents", [0.5, 1e300]),
        "BYTES": ("bytes_contents", [b"a", b""]),
    }
    whole = _message(id="r", model_version="1")
    for datatype, (field, values) in typed.items():
        item = whole.inputs.add(name=datatype.lower(), datatype=datatype, shape=[2])
        getattr(item.contents, field).extend(values)
    whole.outputs.add(name="y").parameters["classification"].int64_param = 2
    whole.parameters["sequence_id"].string_param = "s"
    whole.parameters["triton_enable_empty_final_response"].bool_param = True
    raw = _message(raw_input_contents=[b"\0\0\x80?" * 2, b"\1\0\0\0a\0\0\0\0"])
    raw.inputs.add(name="a", datatype="FP32", shape=[1, 2])
    raw.inputs.add(name="text", datatype="BYTES", shape=[2])
    return [message.SerializeToString() for message in (whole, raw)]


def _decode_proto(content: bytes) -> object:
    message = parsed(service_pb2.ModelInferRequest, content)
    read = proto_fast.read(content)
    if isinstance(read, proto_fast.Repeated):
        whole = _said(lambda: proto.decode_infer(message))
        repeated = _said(lambda: proto_fast.decode(read, None, None)[0])
        if whole != repeated:
            raise AssertionError(f"{whole} was read as {repeated}")
    return proto.decode_infer(message)


def _said(decode: Callable[[], InferenceRequest]) -> object:
    """What a request says, or why it is refused."""
    try:
        request = decode()
    except InvalidArgument as error:
        return error.message
    tensors = [
        # As text, in which NaN equals NaN.
        f"{tensor.name} {tensor.datatype} {tensor.array.shape} {tensor.array.tolist()}"
        for tensor in request.inputs
    ]
    return request.model, request.version, request.id, request.outputs, tensors


def parsed(kind: Any, content: bytes) -> Any:
    """The message of the class `kind` whose bytes these are; InvalidArgument if they are none."""
    try:
        return kind.FromString(content)
    except DecodeError:
        # gRPC refuses such bytes before they reach us.
        raise InvalidArgument("no message") from None


class _Memory(Regions):
    """Knows the region `r` of 64 bytes."""

    def __init__(self) -> None:
        super().__init__()
        descriptor, path = tempfile.mkstemp()
        os.unlink(path)
        os.write(descriptor, np.array([0.5, 0.5], "<f4").tobytes() + bytes(56))
        self._region: Region = CopiedRegion("r", "/r", 0, 64, descriptor)

    def find(self, name: str) -> Region:
        return self._region if name == "r" else super().find(name)


def _shared_seeds() -> list[bytes]:
    """For the first byte 0 as JSON, 1 as a message."""
    place = {"shared_memory_region": "r", "shared_memory_byte_size": 8}
    document = {
        "inputs": [{"name": "a", "shape": [1, 2], "datatype": "FP32", "parameters": place}],
        "outputs": [{"name": "y", "parameters": {**place, "shared_memory_offset": 8}}],
    }
    message = _message()
    item = message.inputs.add(name="a", datatype="FP32", shape=[1, 2])
    output = message.outputs.add(name="y")
    for parameters in (item.parameters, output.parameters):
        parameters["shared_memory_region"].string_param = "r"
        parameters["shared_memory_byte_size"].int64_param = 8
    output.parameters["shared_memory_offset"].int64_param = 16
    return [b"\0" + json.dumps(document).encode(), b"\1" + message.SerializeToString()]


def _decode_shared(regions: Regions, content: bytes) -> object:
    choice, body = content[:1], content[1:]
    if choice == b"\1":
        message = parsed(service_pb2.ModelInferRequest, body)
        return proto.decode_infer_with(regions, message)
    return rest.decode_infer("m", "", body, None, regions)


def _change_shared(rng: random.Random, content: bytes) -> bytes | None:
    change = in_message(service_pb2.ModelInferRequest) if content[:1] == b"\1" else in_json
    changed = change(rng, content[1:])
    return None if changed is None else content[:1] + changed


TARGETS: Final = (
    Target(
        "proto",
        _decode_proto,
        _proto_seeds(),
        (*DATATYPES, b"\x2a", b"\x3a", b"\x0a"),
        in_message(service_pb2.ModelInferRequest),
    ),
    Target(
        "shared",
        partial(_decode_shared, _Memory()),
        _shared_seeds(),
        (*JSON_WORDS, b'"shared_memory_offset":', b'"shared_memory_byte_size":', b'"r"'),
        _change_shared,
    ),
)
