"""What is asked in each case, as bytes for the load generator, and how its answer is read."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import tritonclient.grpc
import tritonclient.http
from tritonclient.grpc import service_pb2
from tritonclient.utils import np_to_triton_dtype

from bench.models import Array, Subject

BINARY: Final = "rest-binary"
JSON: Final = "rest-json"
GRPC: Final = "grpc"
LARGE_BINARY: Final = "large-rest-binary"
LARGE_GRPC: Final = "large-grpc"
LARGE_SHARED: Final = "large-shared"
MODELS: Final = "models"

SMALL: Final = (BINARY, JSON, GRPC)
LARGE: Final = (LARGE_BINARY, LARGE_GRPC, LARGE_SHARED)
OVER_GRPC: Final = frozenset({GRPC, LARGE_GRPC})

_LENGTH: Final = "Inference-Header-Content-Length"
_INFER: Final = "/inference.GRPCInferenceService/ModelInfer"


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; over HTTP with its headers, their names in lower case."""

    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Request:
    """A POST over HTTP/1.1 or one message over gRPC, and how its answer is read."""

    path: str
    headers: Mapping[str, str]
    body: bytes
    read: Callable[[Answer], Array]


@dataclass(frozen=True, slots=True)
class Case:
    """A kind of request and how many connections send it, each one after the other."""

    kind: str
    connections: int

    def __str__(self) -> str:
        return f"{self.kind}, {self.connections}"


def oip_request(kind: str, subject: Subject) -> Request:
    """What tritonclient sends to a server of the Open Inference Protocol."""
    if kind in OVER_GRPC:
        return _grpc_request(subject)
    binary = kind != JSON
    datatype = np_to_triton_dtype(subject.rows.dtype)
    tensor = tritonclient.http.InferInput(subject.input, list(subject.rows.shape), datatype)
    tensor.set_data_from_numpy(subject.rows, binary_data=binary)
    wanted = tritonclient.http.InferRequestedOutput(subject.output, binary_data=binary)
    client = tritonclient.http.InferenceServerClient
    body, header = client.generate_request_body([tensor], outputs=[wanted])
    headers = {"Content-Type": "application/json"}
    if header is not None:
        headers = {"Content-Type": "application/octet-stream", _LENGTH: str(header)}

    def read(answer: Answer) -> Array:
        length = answer.headers.get(_LENGTH.lower())
        result = client.parse_response_body(
            answer.body, header_length=int(length) if length else None
        )
        array: Array = result.as_numpy(subject.output)
        return array

    return Request(f"/v2/models/{subject.model}/infer", headers, bytes(body), read)


def _grpc_request(subject: Subject) -> Request:
    message = service_pb2.ModelInferRequest(
        model_name=subject.model,
        inputs=[{"name": subject.input, "datatype": "FP32", "shape": subject.rows.shape}],
        raw_input_contents=[subject.rows.tobytes()],
    )

    def read(answer: Answer) -> Array:
        result = tritonclient.grpc.InferResult(
            service_pb2.ModelInferResponse.FromString(answer.body)
        )
        array: Array = result.as_numpy(subject.output)
        return array

    return Request(_INFER, {}, message.SerializeToString(), read)


def plain_request(kind: str, subject: Subject) -> Request:
    """One image as JSON, for servers that have no protocol but their own, whatever the kind."""
    body = json.dumps({subject.input: subject.rows[0].tolist()}).encode()

    def read(answer: Answer) -> Array:
        return np.array([json.loads(answer.body)[subject.output]], dtype=np.float32)

    return Request("/predict", {"Content-Type": "application/json"}, body, read)


def rows_request(kind: str, subject: Subject) -> Request:
    """All rows as JSON, where a server's own protocol wants batches."""
    body = json.dumps({subject.input: subject.rows.tolist()}).encode()

    def read(answer: Answer) -> Array:
        return np.array(json.loads(answer.body), dtype=np.float32)

    return Request("/predict", {"Content-Type": "application/json"}, body, read)
