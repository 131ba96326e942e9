"""Infer messages whose beginning is known: only the tensors' bytes behind it are read and written.

A client that sends image after image repeats its message but for the bytes of the images, and
these come last in it. So what is before them is understood once, as are the answers' beginnings.
It is used for what is usual only; everything else is left to `proto`.
"""

from collections.abc import Sequence
from typing import Any, Final, NamedTuple, TypeAlias

from google.protobuf.message import Message
from tritonclient.grpc import service_pb2

from serving.errors import InvalidArgument
from serving.memo import Memo
from serving.shared_memory import Regions
from serving.types import InferenceRequest, InferenceResponse, RequestedOutput, Tensor
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


class Repeated(NamedTuple):
    """A request whose beginning came before, and its inputs' bytes."""

    model_name: str
    model_version: str
    headers: tuple[TensorHeader, ...]
    outputs: tuple[RequestedOutput, ...]
    raw: Sequence[memoryview] = ()


Infer: TypeAlias = Message | Repeated

# What has come once is only noted: to understand it takes longer than to read it once more.
_NOTED: Final[Memo[bytes, None]] = Memo(_MOST)
_KNOWN: Final[dict[bytes, Repeated]] = {}
_LENGTHS: Final[set[int]] = set()
_SAID: Final[Memo[tuple[Any, ...], bytes]] = Memo(_MOST)


def read(content: bytes | bytearray) -> Infer:
    """The request in `content`; raises DecodeError."""
    for length in _LENGTHS:
        known = _KNOWN.get(bytes(content[:length]))
        if known is not None:
            raw = _contents(memoryview(content), length)
            if raw is not None and len(raw) == len(known.headers):
                return Repeated(known[0], known[1], known[2], known[3], raw)
    message: Message = _Request.FromString(content)
    _learn(bytes(content[:_LONGEST]), len(content), message)
    return message


def decode(
    message: Infer, regions: Regions | None, deadline: int | None
) -> tuple[InferenceRequest, Places]:
    """As `proto.decode_infer_with`."""
    if not isinstance(message, Repeated):
        return proto.decode_infer_with(regions, message, deadline)
    model = message.model_name
    inputs = [
        Tensor(header.name, header.datatype, raw_tensors.decode(data, header, model))
        for header, data in zip(message.headers, message.raw, strict=True)
    ]
    version, outputs = message.model_version, message.outputs
    request = InferenceRequest(
        model, tuple(inputs), version=version, outputs=outputs, deadline=deadline
    )
    return request, {}


def encode(response: InferenceResponse, places: Places) -> bytes:
    """The bytes of what `proto.encode_infer` makes of a response."""
    if places or response.id or response.parameters:
        whole: Message = proto.encode_infer(response, places)
        content: bytes = whole.SerializeToString()
        return content
    said: list[Any] = [response.model, response.version]
    parts = [b""]
    for tensor in response.outputs:
        said += (tensor.name, tensor.datatype.wire, tensor.array.shape)
        raw = raw_tensors.encode(tensor)
        parts += (_OUTPUT, _varint(len(raw)), raw)  # type: ignore[arg-type]  # joined, that is all
    key = tuple(said)
    if key not in _SAID:
        message = proto.encode_infer(response)
        message.ClearField("raw_output_contents")
        _SAID.keep(key, message.SerializeToString())
    parts[0] = _SAID[key]
    return b"".join(parts)


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


def _learn(content: bytes, size: int, message: Any) -> None:
    """Remember the beginning of `content`, which is that of `message`, if it may come again."""
    raw = message.raw_input_contents
    if not raw or len(raw) != len(message.inputs) or message.id or message.parameters:
        return
    length = size - sum(1 + len(_varint(len(one))) + len(one) for one in raw)
    beginning = content[:length]
    if len(beginning) < length or not length:
        return
    if beginning not in _NOTED:
        _NOTED.keep(beginning, None)
        return
    known = _understood(beginning, message)
    if known is None:
        return
    if len(_KNOWN) >= _MOST or (length not in _LENGTHS and len(_LENGTHS) >= _MOST_LENGTHS):
        _KNOWN.clear()
        _LENGTHS.clear()
    _KNOWN[beginning] = known
    _LENGTHS.add(length)


def _understood(beginning: bytes, message: Any) -> Repeated | None:
    """What all requests with that beginning say; None unless it is all of `message` but its bytes.

    Nothing of it may lie in shared memory, or hold a parameter that could mean something else then.
    """
    rest = _Request()
    rest.CopyFrom(message)
    rest.ClearField("raw_input_contents")
    if rest != _Request.FromString(beginning):
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
    return Repeated(request.model, request.version, headers, request.outputs)


def _varint(number: int) -> bytes:
    """`number` as protobuf writes it."""
    parts = bytearray()
    while number > 0x7F:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    parts.append(number)
    return bytes(parts)
