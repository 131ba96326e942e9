"""Answers over REST: JSON, and the tensors that follow it as raw bytes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, TypeAlias

from serving.memo import Memo
from serving.types import InferenceResponse, Tensor
from serving.wire import json_tensors, json_text, raw_tensors, shared_memory
from serving.wire.shared_memory import Places

Buffer: TypeAlias = bytes | memoryview

# What answers say before their data, by model, version and tensors.
_SAID: Final[Memo[tuple[Any, ...], bytes]] = Memo(512)


@dataclass(frozen=True, slots=True)
class OutputEncoding:
    """Which outputs travel as binary data: those that `binary` says, the rest by `default`.

    Those with a place in shared memory do not travel at all.
    """

    default: bool
    binary: Mapping[str, bool] = field(default_factory=dict)
    places: Places = field(default_factory=dict)

    def is_binary(self, output: str) -> bool:
        """True if `output` shall follow the JSON as raw bytes."""
        return self.binary.get(output, self.default)


ALL_JSON: Final = OutputEncoding(default=False)
ALL_BINARY: Final = OutputEncoding(default=True)


def encode_infer(
    response: InferenceResponse, encoding: OutputEncoding
) -> tuple[list[Buffer], int | None]:
    """The body as buffers to be sent one after the other, and the size of its JSON part in bytes.

    The size is None where nothing is binary: then the header `HEADER_LENGTH` is not sent. Raises
    InvalidArgument for an output that JSON cannot carry or its place in shared memory cannot hold.
    """
    if encoding is ALL_BINARY and not response.parameters:
        return _encode_binary(response)
    if encoding.places:
        shared_memory.deliver(response.outputs, encoding.places)
    outputs = []
    buffers: list[Buffer] = [b""]
    for tensor in response.outputs:
        output = _described(tensor)
        if tensor.name in encoding.places:
            pass  # its data has been delivered
        elif encoding.is_binary(tensor.name):
            raw = raw_tensors.encode(tensor)
            output["parameters"] = {"binary_data_size": len(raw)}
            buffers.append(raw)
        else:
            output["data"] = json_tensors.encode(tensor)
        outputs.append(output)
    buffers[0] = _document(response, outputs)
    # As Triton has it, tensors of no elements alone are no binary data.
    is_binary = any(len(buffer) for buffer in buffers[1:])
    return buffers, len(buffers[0]) if is_binary else None


def _encode_binary(response: InferenceResponse) -> tuple[list[Buffer], int | None]:
    """As `encode_infer`, where all is binary: what stands before the data is likely to be known."""
    buffers: list[Buffer] = [b""]
    said: list[Any] = [response.model, response.version]
    for tensor in response.outputs:
        raw = raw_tensors.encode(tensor)
        buffers.append(raw)
        said += (tensor.name, tensor.datatype.wire, tensor.array.shape, len(raw))
    key = tuple(said)
    text = _SAID.get(key)
    if text is None:
        outputs = [
            _described(tensor) | {"parameters": {"binary_data_size": len(raw)}}
            for tensor, raw in zip(response.outputs, buffers[1:], strict=True)
        ]
        text = _document(replace(response, id=""), outputs)
        _SAID.keep(key, text)
    if response.id:
        text = b'{"id":%b,%b' % (json_text.dumps(response.id), text[1:])
    buffers[0] = text
    return buffers, len(text) if any(buffers[1:]) else None


def _described(tensor: Tensor) -> dict[str, Any]:
    """What an answer says of an output, wherever its data are."""
    return {
        "name": tensor.name,
        "datatype": tensor.datatype.wire,
        "shape": tensor.array.shape,
    }


def _document(response: InferenceResponse, outputs: Sequence[Mapping[str, Any]]) -> bytes:
    """The JSON of an answer with these outputs."""
    document: dict[str, Any] = {"id": response.id} if response.id else {}
    document["model_name"] = response.model
    document["model_version"] = response.version
    if response.parameters:
        document["parameters"] = dict(response.parameters)
    document["outputs"] = outputs
    return json_text.dumps(document)
