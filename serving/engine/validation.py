"""Holds a request against the model's signature before anything waits or runs for it."""

from collections.abc import Hashable, Iterable
from typing import Final

import numpy as np
from msgspec import Struct

from serving.config import ModelConfig
from serving.dtypes import Datatype
from serving.engine.batching.merge import merge_key
from serving.engine.deadly_values import refuse_deadly
from serving.engine.parity import numbers
from serving.errors import InvalidArgument
from serving.types import InferenceRequest, RequestedOutput, Tensor, TensorSpec, fits, shown

_MOST_KNOWN: Final = 64
_BATCH_NOTE: Final = (
    " The first dimension is the batch, since max_batch_size is above zero: send one example as a "
    "batch of 1."
)


class Admitted(Struct, frozen=True):
    """A request that fits the model.

    Requests of equal `key` may share a batch; `outputs` are the names to return, in the client's
    order.
    """

    inputs: tuple[Tensor, ...]
    outputs: tuple[str, ...]
    rows: int
    key: Hashable


class Validator:
    """Checks requests for one model version; all messages name the field and what was expected."""

    def __init__(self, config: ModelConfig) -> None:
        self._model = config.name
        self._max_rows = config.max_batch_size
        self._splits = config.splits_large_requests
        self._inputs = {spec.name: spec for spec in config.inputs}
        self._required = {spec.name for spec in config.inputs if not spec.optional}
        self._outputs = tuple(spec.name for spec in config.outputs)
        # The outputs that requests have asked for, and their names.
        self._known: dict[tuple[RequestedOutput, ...], tuple[str, ...]] = {(): self._outputs}
        self._finite_only = config.reject_non_finite_inputs
        self._deadly = config.deadly
        self._reads_values = self._finite_only or any(config.deadly)
        self._ragged = config.ragged_inputs
        # With every dimension fixed and every input required, all valid requests can be merged.
        self._uniform = len(self._required) == len(self._inputs) and all(
            -1 not in spec.dims or spec.name in self._ragged for spec in config.inputs
        )

    def admit(self, request: InferenceRequest) -> Admitted:
        """The request in the engine's terms; InvalidArgument where it does not fit the model."""
        inputs = request.inputs
        if len(inputs) != 1 or len(self._inputs) != 1 or inputs[0].name not in self._inputs:
            self._check_names(request)
        outputs = self._known.get(request.outputs) or self._requested(request)
        rows = 0
        try:
            for tensor in inputs:
                rows = self._check_tensor(tensor, self._inputs[tensor.name], rows)
            if self._reads_values:
                self._check_values(inputs)
        except InvalidArgument as error:
            raise error.labelled(request.label) from None
        key = outputs if self._uniform else merge_key(inputs, outputs, self._ragged)
        return Admitted(inputs, outputs, rows or 1, key)

    def _check_names(self, request: InferenceRequest) -> None:
        given = [tensor.name for tensor in request.inputs]
        if len(given) == len(self._inputs) and self._inputs.keys() == set(given):
            return
        for name in given:
            if name not in self._inputs:
                raise InvalidArgument(
                    f"unexpected inference input '{name}' for model '{self._model}'; "
                    f"expected {_quoted(self._inputs)}"
                )
            if given.count(name) > 1:
                raise InvalidArgument(
                    f"input '{name}' for model '{self._model}' is given more than once"
                )
        missing = [name for name in self._inputs if name in self._required - set(given)]
        if missing:
            raise InvalidArgument(
                f"{request.label}expected {self._expected_count()} but got {len(given)} inputs for "
                f"model '{self._model}'. Got input(s) [{_listed(given)}], but missing required "
                f"input(s) [{_listed(missing)}]. Please provide all required input(s)."
            )

    def _expected_count(self) -> str:
        required, known = len(self._required), len(self._inputs)
        if required == known:
            return f"{known} inputs"
        return f"number of inputs between {required} and {known}"

    def _check_tensor(self, tensor: Tensor, spec: TensorSpec, rows: int) -> int:
        """The batch size of `tensor`, 0 for a model that does not batch."""
        if tensor.datatype is not spec.datatype:
            raise InvalidArgument(
                f"inference input '{tensor.name}' data-type is '{tensor.datatype.wire}', "
                f"but model '{self._model}' expects '{spec.datatype.wire}'"
            )
        shape = tensor.array.shape
        if self._max_rows:
            is_usual = shape and shape[1:] == spec.dims and 0 < shape[0] <= self._max_rows
            given = shape[0] if is_usual else self._batch_size(tensor, spec)
            if rows and given != rows:
                raise InvalidArgument(
                    f"input '{tensor.name}' batch size {given} does not match other inputs' batch "
                    f"size {rows} for model '{self._model}'"
                )
            rows, shape = given, shape[1:]
        if shape != spec.dims and not fits(shape, spec.dims):
            raise self._wrong_shape(tensor, spec)
        if spec.datatype is Datatype.BYTES:
            self._check_text(tensor)
        return rows

    def _batch_size(self, tensor: Tensor, spec: TensorSpec) -> int:
        if tensor.array.ndim != len(spec.dims) + 1:
            raise self._wrong_shape(tensor, spec)
        rows: int = tensor.array.shape[0]
        if rows > self._max_rows and not self._splits:
            raise InvalidArgument(
                f"inference request batch-size must be <= {self._max_rows} for "
                f"'{self._model}', got {rows} rows in input '{tensor.name}'"
            )
        if rows == 0:
            raise InvalidArgument(
                f"inference request batch-size must be >= 1 for '{self._model}', "
                f"got 0 rows in input '{tensor.name}'"
            )
        return rows

    def _wrong_shape(self, tensor: Tensor, spec: TensorSpec) -> InvalidArgument:
        expected = [-1, *spec.dims] if self._max_rows else list(spec.dims)
        got = list(tensor.array.shape)
        note = _BATCH_NOTE if self._max_rows and len(got) == len(spec.dims) else ""
        return InvalidArgument(
            f"unexpected shape for input '{tensor.name}' for model '{self._model}'. "
            f"Expected {shown(expected)}, got {shown(got)}.{note}"
        )

    def _check_values(self, inputs: tuple[Tensor, ...]) -> None:
        for tensor in inputs:
            datatype = tensor.datatype
            if self._finite_only and (datatype.is_float or datatype is Datatype.BF16):
                self._check_finite(tensor)
        refuse_deadly({tensor.name: tensor.array for tensor in inputs}, self._deadly, self._model)

    def _check_finite(self, tensor: Tensor) -> None:
        is_bf16 = tensor.datatype is Datatype.BF16
        values = numbers(tensor.array, Datatype.BF16) if is_bf16 else tensor.array
        finite = np.isfinite(values)
        if not finite.all():
            where = tuple(int(index) for index in np.argwhere(~finite)[0])
            raise InvalidArgument(
                f"input '{tensor.name}' for model '{self._model}' must hold finite numbers, "
                f"got {values[where]} at {shown(where)}"
            )

    def _check_text(self, tensor: Tensor) -> None:
        for index, item in enumerate(tensor.array.reshape(-1)):
            try:
                item.decode()
            except UnicodeDecodeError as error:
                raise InvalidArgument(
                    f"input '{tensor.name}' for model '{self._model}' must hold UTF-8 text: "
                    f"element {index}: {error.reason} at byte {error.start}"
                ) from None

    def _requested(self, request: InferenceRequest) -> tuple[str, ...]:
        """The names of the outputs that are asked for, checked."""
        names = tuple(output.name for output in request.outputs)
        for name in names:
            if name not in self._outputs:
                raise InvalidArgument(
                    f"unexpected inference output '{name}' for model '{self._model}'; "
                    f"expected {_quoted(self._outputs)}"
                )
        if len(set(names)) != len(names):
            raise InvalidArgument(
                f"an output of model '{self._model}' is requested more than once: {_quoted(names)}"
            )
        if len(self._known) < _MOST_KNOWN:
            self._known[request.outputs] = names
        return names


def _listed(names: Iterable[str]) -> str:
    """As Triton lists them, where clients match the words."""
    return ",".join(f"'{name}'" for name in names)


def _quoted(names: Iterable[str]) -> str:
    return ", ".join(f"'{name}'" for name in names)
