"""Samples to the bytes of requests, made once before anything is measured."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from tritonclient.grpc import service_pb2

from serving.bench.client.supply import FIRST, Template, Templates, written
from serving.bench.inputs import Sample
from serving.bench.model import Model, Unsuitable
from serving.bench.plan import Protocol, Target
from serving.dtypes import Datatype
from serving.types import Tensor
from serving.wire import json_tensors, json_text, raw_tensors

_HEADER_LENGTH: Final = "Inference-Header-Content-Length"


def encode(
    target: Target,
    model: Model,
    samples: Sequence[Sample],
    outputs: Sequence[str],
    timeout: float | None,
) -> list[bytes]:
    """The bytes to send for each sample: an HTTP request, or a serialised ModelInferRequest.

    `outputs` are named in the request, none asks for all. `timeout` in seconds is told to the
    server. Raises Unsuitable where the protocol cannot carry the tensors.
    """
    return _encode(target, model, samples, outputs, _parameters(timeout))


def encode_steps(
    target: Target,
    model: Model,
    samples: Sequence[Sample],
    outputs: Sequence[str],
    timeout: float | None,
) -> list[Templates]:
    """As `encode`, each sample as the steps of sequences whose number is left open."""
    is_text = target.protocol is not Protocol.GRPC
    number = written(FIRST, is_text)
    kinds = []
    for is_last in (False, True):
        for is_first in (False, True):
            flags = {"sequence_id": FIRST, "sequence_start": is_first, "sequence_end": is_last}
            parameters = flags | _parameters(timeout)
            encoded = _encode(target, model, samples, outputs, parameters)
            # The parameters come before the tensors, which may hold anything.
            parted = [content.partition(number) for content in encoded]
            kinds.append([Template(before, behind, is_text) for before, _, behind in parted])
    return [Templates(*steps) for steps in zip(*kinds, strict=True)]


def _parameters(timeout: float | None) -> dict[str, int]:
    return {"timeout": round(timeout * 1e6)} if timeout else {}


def _encode(
    target: Target,
    model: Model,
    samples: Sequence[Sample],
    outputs: Sequence[str],
    parameters: Mapping[str, int],
) -> list[bytes]:
    match target.protocol:
        case Protocol.GRPC:
            return [_message(target, sample, outputs, parameters) for sample in samples]
        case Protocol.BINARY:
            return [_binary(target, sample, outputs, parameters) for sample in samples]
        case Protocol.JSON:
            _check_json(model)
            return [_json(target, sample, outputs, parameters) for sample in samples]


def _message(
    target: Target, sample: Sample, outputs: Sequence[str], parameters: Mapping[str, int]
) -> bytes:
    message = service_pb2.ModelInferRequest(model_name=target.model, model_version=target.version)
    for name, value in parameters.items():
        if isinstance(value, bool):
            message.parameters[name].bool_param = value
        else:
            message.parameters[name].int64_param = value
    for tensor in sample.inputs:
        message.inputs.add(
            name=tensor.name, datatype=tensor.datatype.wire, shape=tensor.array.shape
        )
        message.raw_input_contents.append(bytes(raw_tensors.encode(tensor)))
    for name in outputs:
        message.outputs.add(name=name)
    return bytes(message.SerializeToString())


def _binary(
    target: Target, sample: Sample, outputs: Sequence[str], parameters: Mapping[str, int]
) -> bytes:
    data = [bytes(raw_tensors.encode(tensor)) for tensor in sample.inputs]
    document = {
        "parameters": {**parameters, "binary_data_output": True},
        "inputs": [
            _header(tensor) | {"parameters": {"binary_data_size": len(each)}}
            for tensor, each in zip(sample.inputs, data, strict=True)
        ],
    }
    text = json_text.dumps(document | _wanted(outputs))
    headers = {"Content-Type": "application/octet-stream", _HEADER_LENGTH: str(len(text))}
    return _http(target, headers, b"".join((text, *data)))


def _json(
    target: Target, sample: Sample, outputs: Sequence[str], parameters: Mapping[str, int]
) -> bytes:
    inputs = [_header(tensor) | {"data": json_tensors.encode(tensor)} for tensor in sample.inputs]
    document = {"parameters": dict(parameters), "inputs": inputs}
    body = json_text.dumps(document | _wanted(outputs))
    return _http(target, {"Content-Type": "application/json"}, body)


def _check_json(model: Model) -> None:
    """Unsuitable if a tensor of the model cannot travel as JSON."""
    for spec in (*model.inputs, *model.outputs):
        if spec.datatype in (Datatype.FP16, Datatype.BF16):
            raise Unsuitable(
                f"'{spec.name}' is {spec.datatype.wire}, which JSON cannot carry: use "
                f"--protocol {Protocol.BINARY.value} or {Protocol.GRPC.value}"
            )


def _header(tensor: Tensor) -> dict[str, Any]:
    shape = list(tensor.array.shape)
    return {"name": tensor.name, "datatype": tensor.datatype.wire, "shape": shape}


def _wanted(outputs: Sequence[str]) -> dict[str, Any]:
    return {"outputs": [{"name": name} for name in outputs]} if outputs else {}


def _http(target: Target, headers: Mapping[str, str], body: bytes) -> bytes:
    lines = [
        f"POST {target.model_path}/infer HTTP/1.1",
        f"Host: {target.address}",
        *(f"{name}: {value}" for name, value in {**headers, **target.headers}.items()),
        f"Content-Length: {len(body)}",
    ]
    return "\r\n".join((*lines, "", "")).encode("latin-1") + body
