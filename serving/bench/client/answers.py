"""Whether answers are right: every one is looked at, as a quick wrong answer is worth nothing.

An answer must hold each output that was asked for, as many bytes of it as its shape says, with
the batch that was asked; and the values that are expected, where the sample states any.
"""

from collections.abc import Mapping, Sequence
from itertools import chain
from math import prod
from typing import Any, Final

import numpy as np
from google.protobuf.message import DecodeError
from tritonclient.grpc import service_pb2

from serving.bench.model import Model
from serving.bench.plan import Protocol
from serving.dtypes import Datatype, from_wire
from serving.errors import ServingError
from serving.types import Array, TensorSpec
from serving.wire import json_tensors, json_text, raw_tensors
from serving.wire.fields import TensorHeader

_RELATIVE: Final = 1e-3  # as far as batches and threads may change a sum of FP32
_ABSOLUTE: Final = 1e-4
_HEADERS: Final = 64  # different headers of answers that are remembered as right

Data = bytes | memoryview | list[Any]


class Checker:
    """Says what is wrong with an answer, or None; called as `caller.Check`.

    `expected` are the values of outputs by name, for each of the bodies that are sent.
    """

    def __init__(
        self, protocol: Protocol, model: Model, expected: Sequence[Mapping[str, Array]]
    ) -> None:
        self._protocol = protocol
        self._model = model
        self._expected = expected
        self._outputs = {spec.name: spec for spec in model.outputs}
        # Answers without expected values mostly differ in their data only: the header is enough.
        self._right: dict[bytes, int] = {}

    def __call__(self, body: int, answer: bytes, json_length: int | None) -> str | None:
        expected = self._expected[body]
        try:
            if self._protocol is Protocol.GRPC:
                return self._check(_of_message(answer), expected)
            if json_length is None:
                return self._check(_of_binary(answer, memoryview(b"")), expected)
            return self._check_binary(answer, json_length, expected)
        except ServingError as error:
            return error.message
        except (DecodeError, ValueError, LookupError, TypeError, AttributeError) as error:
            return f"unreadable: {type(error).__name__}: {error}"

    def _check_binary(
        self, answer: bytes, json_length: int, expected: Mapping[str, Array]
    ) -> str | None:
        text = answer[:json_length]
        if not expected and self._right.get(text) == len(answer):
            return None
        wrong = self._check(_of_binary(text, memoryview(answer)[json_length:]), expected)
        if wrong is None and len(self._right) < _HEADERS:
            self._right[text] = len(answer)
        return wrong

    def _check(
        self, found: Mapping[str, tuple[TensorHeader, Data]], expected: Mapping[str, Array]
    ) -> str | None:
        missing = self._outputs.keys() - found.keys()
        if missing:
            return f"no output '{min(missing)}'"
        for name, spec in self._outputs.items():
            header, data = found[name]
            wrong = self._misfit(spec, header, data) or _difference(
                header, data, expected.get(name)
            )
            if wrong:
                return f"output '{name}': {wrong}"
        return None

    def _misfit(self, spec: TensorSpec, header: TensorHeader, data: Data) -> str | None:
        if header.datatype is not spec.datatype:
            return f"expected {spec.datatype.wire}, got {header.datatype.wire}"
        batch = self._model.batch
        if header.shape[: len(batch)] != batch:
            return f"expected a batch of {batch[0]}, got the shape {list(header.shape)}"
        size = header.elements if isinstance(data, list) else _size(header, len(data))
        if size != len(data):
            return f"expected {size} for the shape {list(header.shape)}, got {len(data)}"
        return None


def _size(header: TensorHeader, size: int) -> int:
    """The bytes that a tensor has; elements of BYTES have no certain size."""
    if header.datatype is Datatype.BYTES:
        return size
    return header.elements * header.datatype.itemsize


def _difference(header: TensorHeader, data: Data, expected: Array | None) -> str | None:
    if expected is None:
        return None
    if isinstance(data, list):
        array = json_tensors.decode(data, header, header.name)
    else:
        array = raw_tensors.decode(data, header, "answer")
    if array.shape != expected.shape:
        return f"expected the shape {list(expected.shape)}, got {list(array.shape)}"
    if header.datatype.is_float:
        same = np.isclose(array, expected, rtol=_RELATIVE, atol=_ABSOLUTE, equal_nan=True)
    else:
        same = array == expected
    return None if np.all(same) else "other values than expected"


def _header(name: str, datatype: str, shape: Sequence[int]) -> TensorHeader:
    return TensorHeader(name, from_wire(datatype), tuple(shape), prod(shape))


def _of_message(answer: bytes) -> dict[str, tuple[TensorHeader, Data]]:
    message = service_pb2.ModelInferResponse.FromString(answer)
    return {
        each.name: (_header(each.name, each.datatype, each.shape), raw)
        for each, raw in zip(message.outputs, message.raw_output_contents, strict=True)
    }


def _of_object(each: Mapping[str, Any]) -> tuple[TensorHeader, Data]:
    data = each["data"]
    while data and isinstance(data[0], list):
        data = list(chain.from_iterable(data))
    return _header(each["name"], each["datatype"], each["shape"]), data


def _of_binary(text: bytes, binary: memoryview) -> dict[str, tuple[TensorHeader, Data]]:
    found: dict[str, tuple[TensorHeader, Data]] = {}
    for each in json_text.loads(text)["outputs"]:
        size = each.get("parameters", {}).get("binary_data_size")
        if size is None:
            found[each["name"]] = _of_object(each)
            continue
        header = _header(each["name"], each["datatype"], each["shape"])
        found[each["name"]] = header, binary[:size]
        binary = binary[size:]
    return found
