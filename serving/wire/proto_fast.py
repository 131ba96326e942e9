"""Infer messages whose beginning is known: only the tensors' bytes behind it are read and written.

A client that sends image after image repeats its message but for the bytes of the images, and
these come last in it. So what is before them is understood once, as are the answers' beginnings.
It is used for what is usual only; everything else is left to `proto`.
"""

from collections.abc import Sequence
from itertools import chain
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
from google.protobuf.message import DecodeError, Message
from msgspec import Struct
from tritonclient.grpc import service_pb2

from serving.dtypes import Datatype
from serving.errors import InvalidArgument
from serving.memo import Memo
from serving.shared_memory import Regions
from serving.types import Array, InferenceRequest, InferenceResponse, RequestedOutput, Tensor
from serving.wire import proto, raw_tensors
from serving.wire.fields import TensorHeader
from serving.wire.shared_memory import Places

_Request: Final = service_pb2.ModelInferRequest
_Response: Final = service_pb2.ModelInferResponse
_BYTES: Final = 2  # a field of so many bytes, as protobuf has it on the wire
_INPUT: Final = _Request.RAW_INPUT_CONTENTS_FIELD_NUMBER << 3 | _BYTES
_OUTPUT: Final = bytes([_Response.RAW_OUTPUT_CONTENTS_FIELD_NUMBER << 3 | _BYTES])

_LONGEST: Final = 1024
_MOST: Final = 64
# A beginning is looked for by its length, so there must not be many.
_MOST_LENGTHS: Final = 8


class _Layout(NamedTuple):
    """Where the inputs are in a message of `size` bytes, if none of them can be of another size.

    `gaps` is what lies before and between them, and where.
    """

    size: int
    gaps: tuple[tuple[int, bytes], ...]
    inputs: tuple[tuple[TensorHeader, int], ...]

    def find(self, content: bytes | bytearray) -> list[Tensor] | None:
        """The inputs, which look into `content`; None where it is laid out in another way."""
        if len(content) != self.size:
            return None
        for start, gap in self.gaps:
            if not content.startswith(gap, start):
                return None
        found = []
        for (name, datatype, shape, _), start in self.inputs:
            array: Array = np.ndarray(shape, datatype.numpy, content, start)
            found.append(Tensor(name, datatype, array))
        return found


class _Known(NamedTuple):
    """What a beginning says; `layout` is of all messages that begin so, if they have one."""

    model_name: str
    model_version: str
    headers: tuple[TensorHeader, ...]
    outputs: tuple[RequestedOutput, ...]
    layout: _Layout | None = None


class Repeated(Struct, eq=False):
    """A request whose beginning came before, and its inputs, or (None) their bytes only."""

    known: _Known
    inputs: list[Tensor] | None
    raw: Sequence[memoryview] = ()

    @property
    def model_name(self) -> str:
        """As the whole message has it."""
        return self.known.model_name

    @property
    def model_version(self) -> str:
        """As the whole message has it."""
        return self.known.model_version


Infer: TypeAlias = Message | Repeated

# What has come once is only noted: to understand it takes longer than to read it once more.
_NOTED: Final[Memo[bytes, None]] = Memo(_MOST)
_KNOWN: Final[dict[bytes, _Known]] = {}
_LENGTHS: Final[set[int]] = set()
# What is written before the bytes of each output.
_SAID: Final[Memo[tuple[Any, ...], list[bytes]]] = Memo(_MOST)


def read(content: bytes | bytearray) -> Infer:
    """The request in `content`; raises DecodeError."""
    for length in _LENGTHS:
        known = _KNOWN.get(bytes(content[:length]))
        if known is None:
            continue
        inputs = known.layout.find(content) if known.layout else None
        if inputs is not None:
            return Repeated(known, inputs)
        raw = _contents(memoryview(content), length)
        if raw is not None and len(raw) == len(known.headers):
            return Repeated(known, None, raw)
    message: Message = _Request.FromString(content)
    _learn(content, message)
    return message


def decode(
    message: Infer, regions: Regions | None, deadline: int | None
) -> tuple[InferenceRequest, Places]:
    """As `proto.decode_infer_with`."""
    if not isinstance(message, Repeated):
        return proto.decode_infer_with(regions, message, deadline)
    model, version, headers, outputs, _ = message.known
    inputs = message.inputs
    if inputs is None:
        inputs = [
            Tensor(header.name, header.datatype, raw_tensors.decode(data, header, model))
            for header, data in zip(headers, message.raw, strict=True)
        ]
    request = InferenceRequest(
        model, tuple(inputs), version=version, outputs=outputs, deadline=deadline
    )
    return request, {}


def encode(response: InferenceResponse, places: Places) -> bytes:
    """The bytes of what `proto.encode_infer` makes of a response."""
    outputs = response.outputs
    if places or response.id or response.parameters or not outputs:
        whole: Message = proto.encode_infer(response, places)
        content: bytes = whole.SerializeToString()
        return content
    said: list[Any] = [response.model, response.version]
    raws: list[bytes | memoryview] = []
    for tensor in outputs:
        raw = raw_tensors.encode(tensor)
        said += (tensor.name, tensor.datatype.wire, tensor.array.shape, len(raw))
        raws.append(raw)
    key = tuple(said)
    beginnings = _SAID.get(key)
    if beginnings is None:
        beginnings = _beginnings(response, raws)
        _SAID.keep(key, beginnings)
    if len(raws) == 1:
        return beginnings[0] + raws[0]
    return b"".join(chain.from_iterable(zip(beginnings, raws, strict=True)))


def _beginnings(response: InferenceResponse, raws: Sequence[bytes | memoryview]) -> list[bytes]:
    """What comes before the bytes of each output, that of the first with all of the message."""
    message = proto.encode_infer(response)
    message.ClearField("raw_output_contents")
    beginnings = [_OUTPUT + _varint(len(raw)) for raw in raws]
    beginnings[0] = message.SerializeToString() + beginnings[0]
    return beginnings


def _contents(view: memoryview, position: int) -> list[memoryview] | None:
    """The inputs' bytes that are all of `view` from there on; None where anything else is."""
    contents = []
    end = len(view)
    while position < end:
        if view[position] != _INPUT:
            return None
        size, shift, byte = 0, 0, 0x80
        while byte & 0x80:
            position += 1
            if position == end or shift > 28:
                return None
            byte = view[position]
            size |= (byte & 0x7F) << shift
            shift += 7
        position += 1
        contents.append(view[position : position + size])
        position += size
    return contents if position == end else None


def _learn(content: bytes | bytearray, message: Any) -> None:
    """Remember the beginning of `content`, which is that of `message`, if it may come again."""
    raw = message.raw_input_contents
    if not raw or len(raw) != len(message.inputs) or message.id or message.parameters:
        return
    length = len(content) - sum(1 + len(_varint(len(one))) + len(one) for one in raw)
    if not 0 < length <= _LONGEST:
        return
    beginning = bytes(content[:length])
    if beginning not in _NOTED:
        _NOTED.keep(beginning, None)
        return
    known = _understood(beginning, message)
    if known is None:
        return
    known = known._replace(layout=_layout(content, length, known.headers))
    if len(_KNOWN) >= _MOST or (length not in _LENGTHS and len(_LENGTHS) >= _MOST_LENGTHS):
        _KNOWN.clear()
        _LENGTHS.clear()
    _KNOWN[beginning] = known
    _LENGTHS.add(length)


def _layout(
    content: bytes | bytearray, position: int, headers: Sequence[TensorHeader]
) -> _Layout | None:
    """How the inputs lie in `content` behind its beginning; None where their sizes may vary.

    Those of BOOL cannot be looked at where they lie.
    """
    gaps, inputs = [], []
    for header in headers:
        if header.datatype in (Datatype.BOOL, Datatype.BYTES):
            return None
        size = header.elements * header.datatype.itemsize
        gap = bytes((_INPUT,)) + _varint(size)
        gaps.append((position, gap))
        inputs.append((header, position + len(gap)))
        position += len(gap) + size
    return _Layout(position, tuple(gaps), tuple(inputs)) if position == len(content) else None


def _understood(beginning: bytes, message: Any) -> _Known | None:
    """What all requests with that beginning say; None unless it is all of `message` but its bytes.

    Nothing of it may lie in shared memory, or hold a parameter that could mean something else then.
    """
    rest = _Request()
    rest.CopyFrom(message)
    rest.ClearField("raw_input_contents")
    try:
        if rest != _Request.FromString(beginning):
            return None
    except DecodeError:  # the inputs' bytes do not come last, or their lengths are spun out
        return None
    if any(item.parameters for item in (*message.inputs, *message.outputs)):
        return None
    try:
        request = proto.decode_infer(message)
    except InvalidArgument:
        return None
    headers = tuple(
        TensorHeader(tensor.name, tensor.datatype, tensor.array.shape, tensor.array.size)
        for tensor in request.inputs
    )
    return _Known(request.model, request.version, headers, request.outputs)


def _varint(number: int) -> bytes:
    """`number` as protobuf writes it."""
    parts = bytearray()
    while number > 0x7F:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    parts.append(number)
    return bytes(parts)
