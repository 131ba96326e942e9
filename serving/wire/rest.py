"""Requests over REST: JSON, the binary tensor extension and raw binary requests."""

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, NamedTuple, TypeAlias

from serving.dtypes import Datatype
from serving.errors import InvalidArgument
from serving.memo import Memo
from serving.shared_memory import Regions
from serving.types import (
    Array,
    InferenceRequest,
    Parameters,
    RequestedOutput,
    Tensor,
    TensorSpec,
)
from serving.wire import json_fast, json_tensors, json_text, raw_tensors, shared_memory
from serving.wire.elements import bytes_array
from serving.wire.fields import (
    TensorHeader,
    check_many,
    fault,
    show,
    size_mismatch,
    tensor_header,
    unsigned,
)
from serving.wire.parameters import request_parameters, requested_output
from serving.wire.rest_answers import ALL_BINARY, ALL_JSON, Buffer, OutputEncoding
from serving.wire.shared_memory import Place

HEADER_LENGTH: Final = "Inference-Header-Content-Length"
_DIGITS_OF_ANY_SIZE: Final = 19


class _Json(NamedTuple):
    """The data of an input as JSON has it: `[n]` for the list n of those taken out."""

    data: Any


# Where an input's data are: in the JSON, in shared memory, or so many bytes of what follows.
_Source: TypeAlias = _Json | Place | int


class _Head(NamedTuple):
    """What the JSON of a request says; nothing of it is ever changed."""

    id: str
    parameters: Parameters
    inputs: tuple[tuple[TensorHeader, _Source], ...]
    outputs: tuple[RequestedOutput, ...]
    encoding: OutputEncoding


# Heads by their text, from which lists of numbers may have been taken.
_REMEMBERED: Final[Memo[bytes, _Head]] = Memo(512)
_WORTH_REMEMBERING: Final = 2048


@lru_cache(256)  # which keeps no errors
def parse_header_length(value: str | bytes, body_size: int) -> int:
    """The JSON part's size in bytes from the header `HEADER_LENGTH` of a body of `body_size` bytes.

    0 says that the body is a raw binary request: see `decode_raw_infer`. Raises InvalidArgument.
    """
    digits = value.decode("latin-1") if isinstance(value, bytes) else value
    digits = digits.strip(" \t")  # no part of a header's value, and not every parser takes it away
    if digits.isascii() and digits.isdigit() and len(digits) <= _DIGITS_OF_ANY_SIZE:
        length = int(digits)
        if length <= body_size:
            return length
    raise InvalidArgument(
        f"{HEADER_LENGTH}: expected an integer from 0 to the body's {body_size} bytes, "
        f"got {show(digits)}"
    )


def decode_infer(
    model: str,
    version: str,
    body: Buffer,
    header_length: int | None = None,
    regions: Regions | None = None,
) -> tuple[InferenceRequest, OutputEncoding]:
    """The request that `body` holds, and how its answer shall be encoded.

    The first `header_length` bytes are JSON (None: all of them), binary tensors follow; others are
    in `regions`. Raises InvalidArgument; NotFound and Unsupported for tensors in shared memory
    that is not there.
    """
    if header_length is None:
        text, binary = bytes(body), memoryview(b"")
    else:
        text, binary = bytes(body[:header_length]), memoryview(body)[header_length:]
    frame, lists = json_fast.take_out(text)
    try:
        head = _known_head(frame, lists, regions)
        inputs = _read_inputs(head, lists, binary, model)
    except (json_fast.Unusual, InvalidArgument):
        if not lists:
            raise
        # What is wrong is told of the whole text.
        head = _head(text, regions)
        inputs = _read_inputs(head, [], binary, model)
    request = InferenceRequest(
        model=model,
        version=version,
        id=head.id,
        parameters=head.parameters,
        inputs=inputs,
        outputs=head.outputs,
    )
    return request, head.encoding


def decode_raw_infer(
    model: str, version: str, body: Buffer, inputs: Sequence[TensorSpec], max_batch_size: int
) -> tuple[InferenceRequest, OutputEncoding]:
    """The request of a body that is nothing but the data of a model's only input.

    `inputs` are the model's, their dims beginning with -1 if `max_batch_size` > 0; the batch is
    one row. One more dim may be variable. For BYTES the body is the only element, without a length
    before it. Raises InvalidArgument if shape and body do not determine each other.
    """
    if len(inputs) != 1:
        raise InvalidArgument(
            f"raw binary request: expected a model with one input, but '{model}' has {len(inputs)}"
        )
    spec = inputs[0]
    is_batched = max_batch_size > 0
    dims = (1, *spec.dims[1:]) if is_batched else spec.dims
    array = _raw_array(memoryview(body), spec, dims, is_batched, model)
    request = InferenceRequest(model, (Tensor(spec.name, spec.datatype, array),), version)
    return request, ALL_BINARY


def _known_head(text: bytes, lists: list[bytes], regions: Regions | None) -> _Head:
    """The head of a text from which `lists` have been taken; it is likely to have come before.

    A client that sends image after image repeats all but their numbers, byte by byte.
    """
    head = _REMEMBERED.get(text) if len(text) <= _WORTH_REMEMBERING else None
    if head is not None:
        return head
    head = _head(text, regions)
    sources = [source for _, source in head.inputs]
    in_json = [source.data for source in sources if isinstance(source, _Json)]
    if lists and in_json != [[index] for index in range(len(lists))]:
        raise json_fast.Unusual
    # Neither numbers that are still in the text nor a place that may be another's next time.
    is_repeated = len(lists) + sum(type(source) is int for source in sources) == len(sources)
    if is_repeated and not head.encoding.places and len(text) <= _WORTH_REMEMBERING:
        _REMEMBERED.keep(text, head)
    return head


def _head(text: bytes, regions: Regions | None) -> _Head:
    document = _object(json_text.loads(text), "request")
    identifier = document.get("id", "")
    if type(identifier) is not str:
        raise fault("id", "a string", identifier)
    parameters = _object(document.get("parameters", {}), "parameters")
    is_binary = parameters.pop("binary_data_output", False)
    is_binary = _boolean(is_binary, "parameters.binary_data_output")
    wanted = _list(document.get("outputs", []), "outputs")
    outputs, encoding = _decode_outputs(wanted, is_binary, regions)
    inputs = _list(document.get("inputs"), "inputs")
    checked = request_parameters(parameters)
    return _Head(identifier, checked, _decode_inputs(inputs, regions), outputs, encoding)


def _decode_inputs(
    items: list[Any], regions: Regions | None
) -> tuple[tuple[TensorHeader, _Source], ...]:
    inputs: dict[str, tuple[TensorHeader, _Source]] = {}
    for index, member in enumerate(items):
        where = f"inputs[{index}]"
        item = _object(member, where)
        source = _source(item, where, regions)
        header = tensor_header(
            item.get("name"), item.get("datatype"), item.get("shape"), where, inputs
        )
        inputs[header.name] = header, source
    return tuple(inputs.values())


def _read_inputs(
    head: _Head, lists: Sequence[bytes], binary: memoryview, model: str
) -> tuple[Tensor, ...]:
    inputs = []
    position = 0
    for index, (header, source) in enumerate(head.inputs):
        array: Array
        if isinstance(source, int):
            raw = binary[position : position + source]
            position += source
            if len(raw) < source:
                raise _incomplete(header, model, source - len(raw))
            array = raw_tensors.decode(raw, header, model, head.id)
        elif isinstance(source, Place):
            array = shared_memory.decode(source, header, model, head.id)
        else:
            data = json_fast.numbers(lists[source.data[0]], header) if lists else source.data
            array = json_tensors.decode(data, header, f"inputs[{index}].data")
        inputs.append(Tensor(header.name, header.datatype, array))
    if position != len(binary):
        raise InvalidArgument(
            f"unexpected additional input data for model '{model}': the binary_data_size "
            f"parameters sum to {position} bytes, got {len(binary)}"
        )
    return tuple(inputs)


def _source(item: dict[str, Any], where: str, regions: Regions | None) -> _Source:
    parameters = _object(item.get("parameters", {}), f"{where}.parameters")
    place = shared_memory.place(parameters, item.get("name"), where, regions)
    if place:
        if "data" in item or "binary_data_size" in parameters:
            raise InvalidArgument(
                f"{where}: expected either parameters.shared_memory_region or other data, got both"
            )
        return place
    if ("data" in item) == ("binary_data_size" in parameters):
        raise InvalidArgument(
            f"{where}: expected either data or parameters.binary_data_size, "
            f"got {'both' if 'data' in item else 'neither'}"
        )
    if "data" in item:
        return _Json(item["data"])
    return unsigned(parameters["binary_data_size"], f"{where}.parameters.binary_data_size")


def _decode_outputs(
    items: list[Any], is_binary: bool, regions: Regions | None
) -> tuple[tuple[RequestedOutput, ...], OutputEncoding]:
    if not items:
        return (), ALL_BINARY if is_binary else ALL_JSON
    outputs: dict[str, RequestedOutput] = {}
    binary: dict[str, bool] = {}
    places: dict[str, Place] = {}
    for index, member in enumerate(items):
        where = f"outputs[{index}]"
        item = _object(member, where)
        parameters = _object(item.get("parameters", {}), f"{where}.parameters")
        output = requested_output(item.get("name"), parameters, where, outputs)
        outputs[output.name] = output
        if "binary_data" in parameters:
            flag = _boolean(parameters["binary_data"], f"{where}.parameters.binary_data")
            binary[output.name] = flag
        place = shared_memory.place(parameters, output.name, where, regions)
        if place:
            _refuse_other_forms(parameters, where)
            places[output.name] = place
    chosen = OutputEncoding(is_binary, binary, places)
    if not places and all(map(chosen.is_binary, outputs)):
        chosen = ALL_BINARY
    return tuple(outputs.values()), chosen


def _refuse_other_forms(parameters: Mapping[str, Any], where: str) -> None:
    for name in ("binary_data", "classification"):
        # The official client says of such an output that it is not binary.
        if parameters.get(name):
            raise InvalidArgument(
                f"{where}: output can't set both 'shared_memory_region' and '{name}'"
            )


def _raw_array(
    data: memoryview, spec: TensorSpec, dims: tuple[int, ...], is_batched: bool, model: str
) -> Array:
    if spec.datatype is Datatype.BYTES:
        if dims[is_batched:] != (1,):
            raise fault(f"shape of the raw BYTES input '{spec.name}'", "[1]", list(dims))
        header = TensorHeader(spec.name, spec.datatype, dims, 1)
        return bytes_array([bytes(data)], header)
    if dims.count(-1) > 1:
        raise InvalidArgument(
            f"The shape of the raw input '{spec.name}' can not be deduced because there are more "
            "than one variable-sized dimension"
        )
    header = TensorHeader(spec.name, spec.datatype, dims, math.prod(dims))
    if -1 in dims:
        size = -header.elements * spec.datatype.itemsize
        if size == 0 or len(data) % size:
            raise size_mismatch(header, model, "", f"a multiple of {size}", len(data))
        length = len(data) // size
        shape = tuple(length if dim == -1 else dim for dim in dims)
        header = TensorHeader(spec.name, spec.datatype, shape, math.prod(shape))
    return raw_tensors.decode(data, header, model)


def _incomplete(header: TensorHeader, model: str, missing: int) -> InvalidArgument:
    return InvalidArgument(
        f"unexpected size for input '{header.name}', expecting {missing} additional bytes for "
        f"model '{model}'"
    )


def _object(value: Any, where: str) -> dict[str, Any]:
    if type(value) is not dict:
        raise fault(where, "a JSON object", value)
    return value


def _list(value: Any, where: str) -> list[Any]:
    if type(value) is not list:
        raise fault(where, "a list", value)
    check_many(value, where)
    return value


def _boolean(value: Any, where: str) -> bool:
    if type(value) is not bool:
        raise fault(where, "a boolean", value)
    return value
