"""Requests that need not make sense, sent in every encoding, and what comes back."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import grpc
import httpx
import numpy as np
from tritonclient.grpc import service_pb2, service_pb2_grpc

from serving.dtypes import Datatype

MODEL: Final = "digits-mlp"
ZEROS: Final = [0.0] * 64
# What a message about a request without an id begins with, as in Triton.
LABEL: Final = "[request id: <id_unknown>] "
SIZE: Final = "input byte size mismatch for input 'features' for model 'digits-mlp'"


@dataclass(frozen=True, slots=True)
class Input:
    """An input as a client might send it, whether that makes sense or not."""

    name: str = "features"
    datatype: str = "FP32"
    shape: tuple[int, ...] = (1, 64)
    data: list[float] = field(default_factory=lambda: ZEROS)
    parameters: Mapping[str, str | int] = field(default_factory=dict)

    @property
    def raw(self) -> bytes:
        known = {datatype.wire: datatype.numpy for datatype in Datatype}
        return np.array(self.data, known.get(self.datatype, "<f4")).tobytes()


@dataclass(frozen=True, slots=True)
class Request:
    model: str = MODEL
    version: str = ""
    inputs: tuple[Input, ...] = (Input(),)
    outputs: tuple[str, ...] = ()
    parameters: Mapping[str, Any] = field(default_factory=dict)

    @property
    def path(self) -> str:
        version = f"/versions/{self.version}" if self.version else ""
        return f"/v2/models/{self.model}{version}/infer"

    @property
    def document(self) -> dict[str, Any]:
        inputs = [
            {
                "name": item.name,
                "datatype": item.datatype,
                "shape": item.shape,
                "parameters": dict(item.parameters),
            }
            for item in self.inputs
        ]
        outputs = [{"name": name} for name in self.outputs]
        return {"inputs": inputs, "outputs": outputs, "parameters": dict(self.parameters)}


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; `status` is the protocol's own."""

    status: int | str
    message: str


def send_json(http: httpx.Client, request: Request) -> Answer:
    document = request.document
    for item, given in zip(document["inputs"], request.inputs, strict=True):
        if not given.parameters:
            item["data"] = given.data
    return answered(http.post(request.path, content=json.dumps(document)))


def send_binary(http: httpx.Client, request: Request) -> Answer:
    document = request.document
    tensors = []
    for item, given in zip(document["inputs"], request.inputs, strict=True):
        if not given.parameters:
            item["parameters"]["binary_data_size"] = len(given.raw)
            tensors.append(given.raw)
    head = json.dumps(document).encode()
    length = {"Inference-Header-Content-Length": str(len(head))}
    return answered(http.post(request.path, content=b"".join([head, *tensors]), headers=length))


def answered(response: httpx.Response) -> Answer:
    if response.status_code == 200:
        return Answer(200, "")
    document = response.json()
    assert list(document) == ["error"]
    return Answer(response.status_code, document["error"])


def send_grpc(channel: grpc.Channel, request: Request) -> Answer:
    message = service_pb2.ModelInferRequest(model_name=request.model, model_version=request.version)
    for name, value in request.parameters.items():
        fill(message.parameters[name], value)
    for given in request.inputs:
        item = message.inputs.add(name=given.name, datatype=given.datatype, shape=given.shape)
        for name, value in given.parameters.items():
            fill(item.parameters[name], value)
        message.raw_input_contents.append(given.raw)
    for name in request.outputs:
        message.outputs.add(name=name)
    return called(lambda: service_pb2_grpc.GRPCInferenceServiceStub(channel).ModelInfer(message))


def fill(message: Any, value: Any) -> None:
    kinds = {bool: "bool_param", int: "int64_param", str: "string_param", float: "double_param"}
    setattr(message, kinds[type(value)], value)


def called(call: Any) -> Answer:
    try:
        call()
    except grpc.RpcError as error:
        return Answer(error.code().name, error.details())
    return Answer("OK", "")


BAD = (400, "INVALID_ARGUMENT")
UNKNOWN = (404, "NOT_FOUND")
NOT_OFFERED = (501, "UNIMPLEMENTED")


def one(**changes: Any) -> Request:
    return Request(inputs=(Input(**changes),))


def infer_text(**changes: Any) -> bytes:
    """A good request in JSON, with other members of its only input; None leaves one out."""
    item = {"name": "features", "datatype": "FP32", "shape": [1, 64], "data": ZEROS} | changes
    item = {key: value for key, value in item.items() if value is not None}
    return json.dumps({"inputs": [item]}).encode()
