"""Answers over REST: JSON, and the tensors that follow it as raw bytes."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Final, TypeAlias

import orjson

from serving.memo import Memo
from serving.types import InferenceResponse, Tensor
from serving.wire import json_tensors, json_text, raw_tensors, shared_memory
from serving.wire.shared_memory import Places

Buffer: TypeAlias = bytes | memoryview

# What answers without id and parameters say around their data, by model, version and tensors.
_SAID: Final[Memo[tuple[Any, ...], list[bytes]]] = Memo(512)
# In place of data; within JSON, no string holds it as it is.
_GAP: Final = b"\0"
# As size of such data.
_IN_JSON: Final = -1


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
    if encoding.places:
        shared_memory.deliver(response.outputs, encoding.places)
    said: list[Any] = [response.model, response.version]
    texts: list[bytes] = []
    buffers: list[Buffer] = [b""]
    for tensor in response.outputs:
        size: int | None = _IN_JSON
        if tensor.name in encoding.places:
            size = None  # its data has been delivered
        elif encoding.is_binary(tensor.name):
            raw = raw_tensors.encode(tensor)
            size = len(raw)
            buffers.append(raw)
        else:
            texts.append(json_tensors.text(tensor))
        said += (tensor.name, tensor.datatype.wire, tensor.array.shape, size)
    text, *rest = _around(response, tuple(said))
    if rest:
        text += b"".join(chain.from_iterable(zip(texts, rest, strict=True)))
    if response.id:
        text = b'{"id":%b,%b' % (json_text.dumps(response.id), text[1:])
    buffers[0] = text
    # As Triton has it, tensors of no elements alone are no binary data.
    return buffers, len(text) if any(map(len, buffers[1:])) else None


def _around(response: InferenceResponse, said: tuple[Any, ...]) -> list[bytes]:
    """The JSON of an answer without its id, cut where data belong; likely to be known."""
    around = None if response.parameters else _SAID.get(said)
    if around is not None:
        return around
    document: dict[str, Any] = {"model_name": response.model, "model_version": response.version}
    if response.parameters:
        document["parameters"] = dict(response.parameters)
    sizes = said[5::4]
    document["outputs"] = [
        _output(tensor, size) for tensor, size in zip(response.outputs, sizes, strict=True)
    ]
    around = json_text.dumps(document).split(_GAP)
    if not response.parameters:
        _SAID.keep(said, around)
    return around


def _output(tensor: Tensor, size: int | None) -> dict[str, Any]:
    """What an answer says of an output whose data are so many bytes."""
    output = {
        "name": tensor.name,
        "datatype": tensor.datatype.wire,
        "shape": tensor.array.shape,
    }
    if size == _IN_JSON:
        output["data"] = orjson.Fragment(_GAP)
    elif size is not None:
        output["parameters"] = {"binary_data_size": size}
    return output
