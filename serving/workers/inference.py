"""Requests and answers as plain values, and back: the way that every inference takes twice.

A tensor is (name, datatype, shape, content); the content of BYTES is a list of its elements, that
of any other datatype what a channel has for the array, which arrives as bytes and is looked at
where it lies.
"""

from collections.abc import Callable
from typing import Any, Final, TypeAlias

import numpy as np

from serving.dtypes import Datatype
from serving.types import (
    Array,
    InferenceRequest,
    InferenceResponse,
    RequestedOutput,
    Tensor,
    Timing,
)
from serving.workers.channel import Message

# What stands for an array in a message.
Contents: TypeAlias = Callable[[Array], Any]

_DATATYPES: Final = {datatype.wire: datatype for datatype in Datatype}


def from_request(request: InferenceRequest, contents: Contents) -> Message:
    """The request as plain values."""
    return (
        request.model,
        tuple(_from_tensor(tensor, contents) for tensor in request.inputs),
        request.version,
        request.id,
        tuple((output.name, output.classification) for output in request.outputs),
        dict(request.parameters),
        request.deadline,
        request.wants_one_response,
    )


def to_request(values: Message) -> InferenceRequest:
    """What `from_request` was given."""
    model, inputs, version, identifier, outputs, parameters, deadline, wants_one = values
    return InferenceRequest(
        model,
        tuple(map(_to_tensor, inputs)),
        version,
        identifier,
        tuple(RequestedOutput(*output) for output in outputs),
        parameters,
        deadline,
        wants_one,
    )


def from_response(response: InferenceResponse, contents: Contents) -> Message:
    """The response as plain values."""
    timing = response.timing
    return (
        response.model,
        response.version,
        tuple(_from_tensor(tensor, contents) for tensor in response.outputs),
        response.id,
        dict(response.parameters),
        timing and _from_timing(timing),
        response.is_last,
    )


def to_response(values: Message) -> InferenceResponse:
    """What `from_response` was given."""
    model, version, outputs, identifier, parameters, timing, is_last = values
    return InferenceResponse(
        model,
        version,
        tuple(map(_to_tensor, outputs)),
        identifier,
        parameters,
        timing and Timing(*timing),
        is_last,
    )


def _from_timing(timing: Timing) -> Message:
    return (
        timing.queue,
        timing.compute_input,
        timing.compute_infer,
        timing.compute_output,
        timing.batch_rows,
        timing.company,
        timing.queued_at,
    )


def _from_tensor(tensor: Tensor, contents: Contents) -> Message:
    array = tensor.array
    is_text = tensor.datatype is Datatype.BYTES
    content = array.reshape(-1).tolist() if is_text else contents(array)
    return tensor.name, tensor.datatype.wire, array.shape, content


def _to_tensor(values: Message) -> Tensor:
    name, wire, shape, content = values
    datatype = _DATATYPES[wire]
    if datatype is Datatype.BYTES:
        elements = np.empty(len(content), object)
        elements[:] = content
        return Tensor(name, datatype, elements.reshape(shape))
    return Tensor(name, datatype, np.ndarray(shape, datatype.numpy, content))
