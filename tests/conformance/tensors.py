"""Inference requests as data, and what each looks like in every encoding of the protocol."""

import json
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from tritonclient.grpc import service_pb2

from serving.dtypes import Datatype
from tests.conformance.calls import Call, Http, Rpc

CONTENTS: Final = {
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
_REGION: Final = "shared_memory_region"
_PARAMETERS: Final = {bool: "bool_param", int: "int64_param", float: "double_param"}

Values = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Input:
    """A tensor as a client might send it, whether that makes sense or not."""

    name: str
    datatype: str
    shape: Sequence[Any]
    data: Sequence[Any]
    parameters: Values = field(default_factory=dict)

    @property
    def is_sent(self) -> bool:
        """Whether the data travel, rather than lie in shared memory."""
        return _REGION not in self.parameters

    @property
    def raw(self) -> bytes:
        """The data in the binary representation of the datatype; FP32's for an unknown one."""
        if self.datatype == "BYTES":
            texts = [item.encode() if isinstance(item, str) else item for item in self.data]
            return b"".join(struct.pack("<I", len(text)) + text for text in texts)
        known = {datatype.wire: datatype.numpy for datatype in Datatype}
        return np.array(self.data, known.get(self.datatype, "<f4")).tobytes()


@dataclass(frozen=True, slots=True)
class Output:
    """An output that is asked for."""

    name: str
    parameters: Values = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Infer:
    """A request of a model; `extra` are further members of its JSON."""

    model: str
    inputs: Sequence[Input]
    outputs: Sequence[Output] = ()
    parameters: Values = field(default_factory=dict)
    version: str = ""
    id: str = ""

    @property
    def path(self) -> str:
        """Where it is posted to."""
        version = f"/versions/{self.version}" if self.version else ""
        return f"/v2/models/{self.model}{version}/infer"

    def document(self) -> dict[str, Any]:
        """Its JSON, but for the inputs' data."""
        inputs = [
            {"name": one.name, "datatype": one.datatype, "shape": list(one.shape)}
            | ({"parameters": dict(one.parameters)} if one.parameters else {})
            for one in self.inputs
        ]
        outputs = [
            {"name": one.name} | ({"parameters": dict(one.parameters)} if one.parameters else {})
            for one in self.outputs
        ]
        given = {"id": self.id, "outputs": outputs, "parameters": dict(self.parameters)}
        return {"inputs": inputs} | {name: value for name, value in given.items() if value}


def as_json(request: Infer) -> Http:
    """The request with its data in the JSON."""
    document = request.document()
    for item, given in zip(document["inputs"], request.inputs, strict=True):
        if given.is_sent:
            item["data"] = list(given.data)
    return Http("POST", request.path, json.dumps(document).encode())


def as_binary(request: Infer) -> Http:
    """The request with its data behind the JSON, asking for outputs that travel likewise."""
    document = request.document()
    document["parameters"] = {"binary_data_output": True} | document.get("parameters", {})
    for output, wanted in zip(document.get("outputs", []), request.outputs, strict=True):
        if _REGION not in wanted.parameters:
            output["parameters"] = {"binary_data": True} | output.get("parameters", {})
    for item, given in zip(document["inputs"], request.inputs, strict=True):
        if given.is_sent:
            item["parameters"] = {"binary_data_size": len(given.raw)} | item.get("parameters", {})
    text = json.dumps(document).encode()
    content = text + b"".join(given.raw for given in request.inputs if given.is_sent)
    return Http("POST", request.path, content, {"Inference-Header-Content-Length": str(len(text))})


def as_raw_contents(request: Infer) -> Rpc:
    """The request over gRPC with raw contents."""
    message = _message(request)
    message.raw_input_contents.extend(given.raw for given in request.inputs if given.is_sent)
    return Rpc("ModelInfer", message)


def as_typed_contents(request: Infer) -> Rpc:
    """The request over gRPC with typed contents."""
    message = _message(request)
    for item, given in zip(message.inputs, request.inputs, strict=True):
        values = [one.encode() if isinstance(one, str) else one for one in given.data]
        if given.is_sent:
            getattr(item.contents, CONTENTS[given.datatype]).extend(values)
    return Rpc("ModelInfer", message)


ENCODINGS: Final[dict[str, Callable[[Infer], Call]]] = {
    "json": as_json,
    "binary": as_binary,
    "grpc raw": as_raw_contents,
    "grpc typed": as_typed_contents,
}


def everywhere(requests: Mapping[str, Infer], *without: str) -> dict[str, Call]:
    """Each request in every encoding but those named, as cases `encoding: name`."""
    return {
        f"{encoding}: {name}": encode(request)
        for name, request in requests.items()
        for encoding, encode in ENCODINGS.items()
        if encoding not in without
    }


def fill(message: Any, value: Any) -> None:
    """Let an `InferParameter` hold `value`."""
    setattr(message, _PARAMETERS.get(type(value), "string_param"), value)


def _message(request: Infer) -> Any:
    message = service_pb2.ModelInferRequest(
        model_name=request.model, model_version=request.version, id=request.id
    )
    for name, value in request.parameters.items():
        fill(message.parameters[name], value)
    for given in request.inputs:
        item = message.inputs.add(name=given.name, datatype=given.datatype, shape=given.shape)
        for name, value in given.parameters.items():
            fill(item.parameters[name], value)
    for wanted in request.outputs:
        output = message.outputs.add(name=wanted.name)
        for name, value in wanted.parameters.items():
            fill(output.parameters[name], value)
    return message
