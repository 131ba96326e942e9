"""What is asked in each case, as bytes for the load generator, and how its answer is read."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
import tritonclient.http as triton

from bench.models import INPUT, OUTPUT, Array

BINARY: Final = "rest-binary"
JSON: Final = "rest-json"

_LENGTH: Final = "Inference-Header-Content-Length"


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back over HTTP; the names of headers in lower case."""

    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True, slots=True)
class Request:
    """An HTTP POST, and how the probabilities (rows, classes) are read from its answer."""

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
        return f"{self.kind}, {self.connections} connection{'s' * (self.connections > 1)}"


def oip_request(kind: str, model: str, images: Array) -> Request:
    """What tritonclient sends for images (rows, 1, 28, 28) to the Open Inference Protocol."""
    binary = kind == BINARY
    image = triton.InferInput(INPUT, list(images.shape), "FP32")
    image.set_data_from_numpy(images, binary_data=binary)
    wanted = triton.InferRequestedOutput(OUTPUT, binary_data=binary)
    body, header = triton.InferenceServerClient.generate_request_body([image], outputs=[wanted])
    headers = {"Content-Type": "application/json"}
    if header is not None:
        headers = {"Content-Type": "application/octet-stream", _LENGTH: str(header)}
    return Request(f"/v2/models/{model}/infer", headers, bytes(body), _read_oip)


def _read_oip(answer: Answer) -> Array:
    length = answer.headers.get(_LENGTH.lower())
    result = triton.InferenceServerClient.parse_response_body(
        answer.body, header_length=int(length) if length else None
    )
    read: Array = result.as_numpy(OUTPUT)
    return read


def plain_request(kind: str, model: str, images: Array) -> Request:
    """One image as JSON, for servers that have no protocol but their own, whatever the case."""
    body = json.dumps({INPUT: images[0].tolist()}).encode()
    return Request("/predict", {"Content-Type": "application/json"}, body, _read_plain)


def _read_plain(answer: Answer) -> Array:
    return np.array([json.loads(answer.body)[OUTPUT]], dtype=np.float32)
