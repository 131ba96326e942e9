"""The generate extension: JSON whose keys name a model's inputs, and its outputs in the answer."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import orjson

from serving.errors import InvalidArgument
from serving.types import Array, InferenceRequest, InferenceResponse, Tensor, TensorSpec
from serving.wire import json_tensors, json_text
from serving.wire.fields import fault, tensor_header
from serving.wire.parameters import request_parameters

EVENT_STREAM: Final = "text/event-stream; charset=utf-8"


def decode(model: str, version: str, body: bytes, inputs: Sequence[TensorSpec]) -> InferenceRequest:
    """The request in `body`: members that name one of `inputs` are tensors, others parameters.

    `inputs` are the model's, their dims beginning with -1 where it batches. Members of the object
    `parameters` count like those beside it. Raises InvalidArgument.
    """
    document = _object(json_text.loads(body), "request")
    specs = {spec.name: spec for spec in inputs}
    identifier = document.pop("id", "") if "id" not in specs else ""
    if type(identifier) is not str:
        raise fault("id", "a string", identifier)
    tensors: dict[str, Tensor] = {}
    parameters: dict[str, Any] = {}
    for where, name, value in _members(document, specs):
        spec = specs.get(name)
        if name in (tensors if spec else parameters):
            raise InvalidArgument(f"{where}: '{name}' already exists in request")
        if spec:
            tensors[name] = Tensor(name, spec.datatype, _array(value, spec, where))
        else:
            parameters[name] = value
    return InferenceRequest(
        model=model,
        version=version,
        id=identifier,
        parameters=request_parameters(parameters),
        inputs=tuple(tensors.values()),
    )


def encode(response: InferenceResponse) -> bytes:
    """The answer's JSON: each output by its name, a single element without a list around it.

    Raises InvalidArgument for an output that JSON cannot carry.
    """
    document: dict[str, Any] = {"id": response.id} if response.id else {}
    document["model_name"] = response.model
    document["model_version"] = response.version
    document |= response.parameters
    for tensor in response.outputs:
        document[tensor.name] = _value(tensor)
    return json_text.dumps(document)


def event(document: bytes) -> bytes:
    """A JSON document as one server-sent event."""
    return b"data: " + document + b"\n\n"


def _members(
    document: Mapping[str, Any], specs: Mapping[str, TensorSpec]
) -> Iterator[tuple[str, str, Any]]:
    """Where each member is, its name and its value."""
    for name, value in document.items():
        if name == "parameters" and name not in specs:
            nested = _object(value, name)
            yield from ((f"{name}.{inner}", inner, member) for inner, member in nested.items())
        else:
            yield name, name, value


def _array(value: Any, spec: TensorSpec, where: str) -> Array:
    data = value if type(value) is list else [value]
    shape = _shape(_count(data), spec)
    header = tensor_header(spec.name, spec.datatype.wire, shape, where, ())
    return json_tensors.decode(data, header, where)


def _count(data: Any) -> int:
    """The elements of a list whose lists are all as long as the first of them."""
    count = 1
    while type(data) is list:
        count *= len(data)
        data = data[0] if data else None
    return count


def _shape(count: int, spec: TensorSpec) -> list[int]:
    """The input's shape with `count` elements: its last variable dim takes them, others are 1."""
    shape = [1 if dim < 0 else dim for dim in spec.dims]
    fixed = math.prod(shape)
    variable = [place for place, dim in enumerate(spec.dims) if dim < 0]
    if variable and fixed and count % fixed == 0:
        shape[variable[-1]] = count // fixed
    elif count != fixed:
        raise InvalidArgument(
            f"The schema can not convert input '{spec.name}' to tensor with proper shape: expected "
            f"{list(spec.dims)}, got {count} elements"
        )
    return shape


def _value(tensor: Tensor) -> Any:
    try:
        data = json_tensors.encode(tensor)
    except InvalidArgument:
        raise InvalidArgument(
            f"output '{tensor.name}': JSON cannot carry this {tensor.datatype.wire}; "
            "use /infer with binary data"
        ) from None
    if tensor.array.size != 1:
        return data
    return orjson.Fragment(json_text.dumps(data)[1:-1])  # what is between the brackets


def _object(value: Any, where: str) -> dict[str, Any]:
    if type(value) is not dict:
        raise fault(where, "a JSON object", value)
    return value
