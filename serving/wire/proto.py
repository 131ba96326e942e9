"""Inference over gRPC: `inference` protobuf messages to the core's types and back."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

from tritonclient.grpc import service_pb2

from serving.dtypes import Datatype
from serving.errors import InvalidArgument
from serving.shared_memory import Regions
from serving.types import (
    Array,
    InferenceRequest,
    InferenceResponse,
    Parameter,
    RequestedOutput,
    Tensor,
)
from serving.wire import raw_tensors, shared_memory
from serving.wire.elements import bytes_array, numeric_array
from serving.wire.fields import TensorHeader, check_count, check_many, size_mismatch, tensor_header
from serving.wire.parameters import request_parameters, requested_output
from serving.wire.shared_memory import Place, Places

_CONTENTS: Final = {
    Datatype.BOOL: "bool_contents",
    Datatype.UINT8: "uint_contents",
    Datatype.UINT16: "uint_contents",
    Datatype.UINT32: "uint_contents",
    Datatype.UINT64: "uint64_contents",
    Datatype.INT8: "int_contents",
    Datatype.INT16: "int_contents",
    Datatype.INT32: "int_contents",
    Datatype.INT64: "int64_contents",
    Datatype.FP32: "fp32_contents",
    Datatype.FP64: "fp64_contents",
    Datatype.BYTES: "bytes_contents",
}
# Of the names reserved for Triton, the one that clients may set. It asks for a last response of a
# stream, without outputs, after those of a model that gives any number of them.
WANT_EMPTY_FINAL: Final = "triton_enable_empty_final_response"
_OPEN: Final = frozenset({WANT_EMPTY_FINAL})
_MAX_INT64: Final = 2**63 - 1
# Unsigned integers that clients write, and Triton reads, as an int64_param of the same 64 bits.
_UNSIGNED: Final = frozenset({"sequence_id", "timeout"})


def decode_infer(message: Any, deadline: int | None = None) -> InferenceRequest:
    """The request that a `ModelInferRequest` holds, its tensors raw or as typed contents.

    `deadline` is the call's, on the monotonic clock in nanoseconds. Raises InvalidArgument, or
    Unsupported for tensors in shared memory.
    """
    return decode_infer_with(None, message, deadline)[0]


def decode_infer_with(
    regions: Regions | None, message: Any, deadline: int | None = None
) -> tuple[InferenceRequest, Places]:
    """As `decode_infer`, with tensors in `regions` too; and the places there of its outputs.

    Raises NotFound for an unknown region as well.
    """
    check_many(message.inputs, "inputs")
    check_many(message.outputs, "outputs")
    request = InferenceRequest(
        model=message.model_name,
        version=message.model_version,
        id=message.id,
        parameters=request_parameters(_request_parameters(message), _OPEN),
        inputs=_decode_inputs(message, regions),
        outputs=_decode_outputs(message.outputs),
        deadline=deadline,
    )
    return request, _output_places(message, regions)


def encode_infer(response: InferenceResponse, places: Places | None = None) -> Any:
    """The `ModelInferResponse` of a response, its tensors always as raw output contents.

    Those that have a place in shared memory are written there; their contents are empty.
    """
    places = places or {}
    shared_memory.deliver(response.outputs, places)
    message = service_pb2.ModelInferResponse(
        model_name=response.model, model_version=response.version, id=response.id
    )
    for name, value in response.parameters.items():
        set_parameter(message.parameters[name], value)
    for tensor in response.outputs:
        message.outputs.add(
            name=tensor.name, datatype=tensor.datatype.wire, shape=tensor.array.shape
        )
        in_memory = tensor.name in places
        message.raw_output_contents.append(b"" if in_memory else bytes(raw_tensors.encode(tensor)))
    return message


def set_request_parameter(message: Any, name: str, value: Parameter) -> None:
    """Let the parameter `name` of a `ModelInferRequest` hold `value`, as Triton takes it."""
    if type(value) is int and value > _MAX_INT64 and name != "priority":
        # What is not the protocol's is a double then, as Triton's own REST has it.
        value = value - 2**64 if name in _UNSIGNED else float(value)
    set_parameter(message.parameters[name], value)


def set_parameter(message: Any, value: Parameter) -> None:
    """Let an `InferParameter` hold `value`, a 64-bit integer if it is one."""
    match value:
        case bool():
            message.bool_param = value
        case int() if value > _MAX_INT64:
            message.uint64_param = value
        case int():
            message.int64_param = value
        case float():
            message.double_param = value
        case str():
            message.string_param = value


def _request_parameters(message: Any) -> dict[str, Parameter]:
    values = _parameters(message.parameters, "parameters")
    for name in _UNSIGNED & values.keys():
        value = values[name]
        if type(value) is int and value < 0:
            values[name] = value + 2**64
    if type(values.get(WANT_EMPTY_FINAL, False)) is not bool:
        raise InvalidArgument(
            f"invalid value type for '{WANT_EMPTY_FINAL}' parameter, expected bool_param."
        )
    return values


def _decode_inputs(message: Any, regions: Regions | None) -> tuple[Tensor, ...]:
    items = list(message.inputs)
    places = [_place(item, f"inputs[{index}]", regions) for index, item in enumerate(items)]
    raw: Sequence[bytes] = message.raw_input_contents[:]
    if raw and len(raw) != places.count(None):
        raise InvalidArgument(
            f"raw_input_contents: expected one for each of {places.count(None)} inputs, "
            f"got {len(raw)}"
        )
    contents = iter(raw)
    inputs: dict[str, Tensor] = {}
    for index, (item, place) in enumerate(zip(items, places, strict=True)):
        where = f"inputs[{index}]"
        header = tensor_header(item.name, item.datatype, item.shape[:], where, inputs)
        array: Array
        if place or raw:
            _refuse_contents(item, place is not None, message.model_name)
            model, identifier = message.model_name, message.id
            if place:
                array = shared_memory.decode(place, header, model, identifier)
            else:
                array = raw_tensors.decode(next(contents), header, model, identifier)
        else:
            array = _decode_contents(item.contents, header, f"{where}.contents", message)
        inputs[header.name] = Tensor(header.name, header.datatype, array)
    return tuple(inputs.values())


def _output_places(message: Any, regions: Regions | None) -> Places:
    places: dict[str, Place] = {}
    for index, item in enumerate(message.outputs):
        where = f"outputs[{index}]"
        place = _place(item, where, regions)
        if place:
            if "classification" in item.parameters:
                raise InvalidArgument(
                    f"{where}: output can't set both 'shared_memory_region' and 'classification'"
                )
            places[item.name] = place
    return places


def _place(item: Any, where: str, regions: Regions | None) -> Place | None:
    if not item.parameters:
        return None
    parameters = _parameters(item.parameters, f"{where}.parameters")
    return shared_memory.place(parameters, item.name, where, regions)


def _refuse_contents(item: Any, in_memory: bool, model: str) -> None:
    if item.HasField("contents") and item.contents.ListFields():
        other = "shared memory" if in_memory else "raw_input_contents"
        raise InvalidArgument(
            f"contents field must not be specified when using {other} for '{item.name}' for model "
            f"'{model}'"
        )


def _decode_contents(contents: Any, header: TensorHeader, where: str, request: Any) -> Array:
    name = _CONTENTS.get(header.datatype)
    if name is None:
        raise InvalidArgument(
            f"{where}: expected raw_input_contents, since typed contents cannot carry "
            f"{header.datatype.wire}"
        )
    for descriptor, _ in contents.ListFields():
        if descriptor.name != name:
            wire = header.datatype.wire
            raise InvalidArgument(f"{where}: expected {name} for {wire}, got {descriptor.name}")
    values = getattr(contents, name)[:]  # a slice is a list, made quicker than by iteration
    size = header.datatype.itemsize
    if size and len(values) != header.elements:
        expected, got = header.elements * size, len(values) * size
        raise size_mismatch(header, request.model_name, request.id, expected, got)
    if header.datatype is Datatype.BYTES:
        check_count(header, len(values), f"{where}.{name}")
        return bytes_array(values, header)
    return numeric_array(values, header, f"{where}.{name}")


def _decode_outputs(items: Sequence[Any]) -> tuple[RequestedOutput, ...]:
    outputs: dict[str, RequestedOutput] = {}
    for index, item in enumerate(items):
        where = f"outputs[{index}]"
        parameters = _parameters(item.parameters, f"{where}.parameters")
        outputs[item.name] = requested_output(item.name, parameters, where, outputs)
    return tuple(outputs.values())


def _parameters(messages: Mapping[str, Any], where: str) -> dict[str, Parameter]:
    """Python values of a map of `InferParameter` messages."""
    values: dict[str, Parameter] = {}
    if not messages:
        return values
    check_many(messages, where)
    for name, message in messages.items():
        choice = message.WhichOneof("parameter_choice")
        if choice is None:
            raise InvalidArgument(f"{where}.{name}: expected a value, got none")
        values[name] = getattr(message, choice)
    return values
