"""What is asked: samples made up for a model, or read from a file."""

import base64
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any, Final

import numpy as np
import orjson

from serving.bench.model import Model, Unsuitable
from serving.dtypes import Datatype
from serving.errors import InvalidArgument
from serving.types import Array, Tensor, TensorSpec, fits
from serving.wire import json_tensors, raw_tensors
from serving.wire.fields import TensorHeader

_SAMPLES: Final = 16  # different requests, unless they are large
_BYTES: Final = 64 * 1024 * 1024  # of all requests that are made up
_MADE_UP: Final = ("random", "zero")
_MOST: Final = 2**31 - 1  # bytes of a request, as gRPC has it
_TOP: Final = 100  # made-up integers are below, so that they may be indices of something
_ALPHABET: Final = np.frombuffer(b"abcdefghijklmnopqrstuvwxyz0123456789", np.uint8)


@dataclass(frozen=True, slots=True)
class Sample:
    """One request's inputs, and what some of its outputs must be; shapes include the batch."""

    inputs: tuple[Tensor, ...]
    expected: Mapping[str, Array] = field(default_factory=dict)


def samples(data: str, model: Model, string_length: int = 16, seed: int = 0) -> list[Sample]:
    """What is sent: `data` is random, zero or a file's path; Unsuitable if the model takes none."""
    size = _size(model, string_length)
    if size > _MOST:
        raise Unsuitable(
            f"a request would have {size:,} bytes of inputs, and may have {_MOST:,}: send fewer "
            "rows, smaller shapes or shorter strings"
        )
    if data in _MADE_UP:
        return made_up(model, data == "zero", string_length, seed)
    return read(Path(data), model)


def made_up(model: Model, is_zero: bool, string_length: int, seed: int) -> list[Sample]:
    """Random samples, or one of zeros; Unsuitable if a dimension is variable and not given."""
    variable = [spec for spec in model.inputs if any(dim < 0 for dim in spec.dims)]
    if variable:
        shapes = ", ".join(f"'{spec.name}' {list(spec.dims)}" for spec in variable)
        options = (
            f"--shape {spec.name}:{','.join(str(max(dim, 1)) for dim in spec.dims)}"
            for spec in variable
        )
        raise Unsuitable(
            f"dimensions that are -1 may be any size: {shapes}; give them, such as "
            f"{' '.join(options)}"
        )
    random = np.random.default_rng(seed)
    size = max(_size(model, string_length), 1)
    number = 1 if is_zero else max(1, min(_SAMPLES, _BYTES // size))
    make = _Maker(random, is_zero, string_length)
    return [
        Sample(tuple(make(spec, (*model.batch, *spec.dims)) for spec in model.inputs))
        for _ in range(number)
    ]


def _size(model: Model, string_length: int) -> int:
    """The bytes of a request's inputs, where each variable dimension is 1 at least."""
    return sum(
        prod((*model.batch, *map(abs, spec.dims))) * (spec.datatype.itemsize or 4 + string_length)
        for spec in model.inputs
    )


@dataclass(frozen=True, slots=True)
class _Maker:
    random: np.random.Generator
    is_zero: bool
    string_length: int

    def __call__(self, spec: TensorSpec, shape: tuple[int, ...]) -> Tensor:
        return Tensor(spec.name, spec.datatype, self._array(spec.datatype, shape))

    def _array(self, datatype: Datatype, shape: tuple[int, ...]) -> Array:
        if datatype is Datatype.BYTES:
            return self._strings(shape)
        if self.is_zero:
            return np.zeros(shape, datatype.numpy)
        if datatype is Datatype.BF16:
            # The upper half of an FP32 is a BF16.
            return (self.random.random(shape, np.float32).view(np.uint32) >> 16).astype(np.uint16)
        if datatype.is_float:
            return self.random.random(shape, np.float32).astype(datatype.numpy)
        if datatype is Datatype.BOOL:
            return self.random.integers(0, 2, shape).astype(np.bool_)
        top = 256 if datatype is Datatype.UINT8 else _TOP
        return self.random.integers(0, top, shape).astype(datatype.numpy)

    def _strings(self, shape: tuple[int, ...]) -> Array:
        strings = np.empty(prod(shape), object)
        for index in range(len(strings)):
            letters = b"" if self.is_zero else self.random.choice(_ALPHABET, self.string_length)
            strings[index] = bytes(letters)
        return strings.reshape(shape)


def read(path: Path, model: Model) -> list[Sample]:
    """The samples of a .npz file, or of a .json file as perf_analyzer takes it; Unsuitable if bad.

    In both, rows are put together to the batch size of `model`; what does not fill a last request
    is left out, and what is too little for one is repeated.
    """
    try:
        rows = _read_npz(path, model) if path.suffix == ".npz" else _read_json(path, model)
    except OSError as error:
        raise Unsuitable(f"{path}: {error.strerror or error}") from error
    except (ValueError, EOFError, zipfile.BadZipFile, InvalidArgument) as error:
        raise Unsuitable(f"{path}: {error}") from error
    if not rows:
        raise Unsuitable(f"{path}: no data in it")
    return _batched(rows, model)


def _batched(rows: Sequence[Sample], model: Model) -> list[Sample]:
    size = 1 if model.rows is None else model.rows
    rows = [rows[index % len(rows)] for index in range(max(len(rows), size))]
    groups = [rows[at : at + size] for at in range(0, len(rows) - size + 1, size)]
    if model.rows is None:
        return [row for group in groups for row in group]
    return [_together(group) for group in groups]


def _together(group: Sequence[Sample]) -> Sample:
    inputs = tuple(
        Tensor(rows[0].name, rows[0].datatype, _stacked(rows[0].name, [row.array for row in rows]))
        for rows in zip(*(sample.inputs for sample in group), strict=True)
    )
    names = set.intersection(*(set(sample.expected) for sample in group))
    expected = {
        name: _stacked(name, [sample.expected[name] for sample in group]) for name in sorted(names)
    }
    return Sample(inputs, expected)


def _stacked(name: str, rows: Sequence[Array]) -> Array:
    if len({row.shape for row in rows}) > 1:
        raise Unsuitable(
            f"rows of '{name}' have different shapes, which one request cannot hold: use "
            "--batch-size 1"
        )
    return np.stack(rows)


def _read_npz(path: Path, model: Model) -> list[Sample]:
    """One sample a row of the arrays, which bear the inputs' names, and outputs' if expected."""
    file = np.load(path, allow_pickle=False)
    if not isinstance(file, np.lib.npyio.NpzFile):
        raise ValueError("one array without a name: np.savez writes arrays with their names")
    with file:
        arrays = {name: np.asarray(file[name]) for name in file.files}
    inputs = {spec.name: _rows(arrays, spec) for spec in model.inputs}
    outputs = {spec.name: _rows(arrays, spec) for spec in model.outputs if spec.name in arrays}
    counts = {name: len(rows) for name, rows in (inputs | outputs).items()}
    if len(set(counts.values())) > 1:
        raise ValueError(f"expected as many rows for every name, got {counts}")
    return [
        Sample(
            tuple(
                Tensor(spec.name, spec.datatype, inputs[spec.name][row]) for spec in model.inputs
            ),
            {name: rows[row] for name, rows in outputs.items()},
        )
        for row in range(max(counts.values(), default=0))
    ]


def _rows(arrays: Mapping[str, Array], spec: TensorSpec) -> Array:
    if spec.name not in arrays:
        raise ValueError(f"no array '{spec.name}'; there are {', '.join(sorted(arrays))}")
    array = arrays[spec.name]
    if array.ndim == len(spec.dims):
        array = array[np.newaxis]
    if not fits(array.shape[1:], spec.dims):
        raise ValueError(
            f"'{spec.name}': expected rows of the shape {list(spec.dims)}, got an array of "
            f"{list(array.shape)}"
        )
    if spec.datatype is Datatype.BYTES:
        return _as_bytes(array)
    if not np.can_cast(array.dtype, spec.datatype.numpy, "same_kind"):
        raise ValueError(f"'{spec.name}': {array.dtype} is not {spec.datatype.wire}")
    return array.astype(spec.datatype.numpy, copy=False)


def _as_bytes(array: Array) -> Array:
    elements = np.empty(array.size, object)
    elements[:] = [
        each.encode() if isinstance(each, str) else each for each in array.ravel().tolist()
    ]
    return elements.reshape(array.shape)


def _read_json(path: Path, model: Model) -> list[Sample]:
    document = orjson.loads(path.read_bytes())
    if not isinstance(document, dict) or "data" not in document:
        raise ValueError('expected {"data": [{"INPUT": …}, …]}, as perf_analyzer takes it')
    data = _entries(document, "data")
    expected = _entries(document, "validation_data")
    if expected and len(expected) != len(data):
        raise ValueError(
            f"validation_data: expected {len(data)} entries as in data, got {len(expected)}"
        )
    return [
        Sample(
            tuple(_tensor(entry, spec, f"data[{index}]") for spec in model.inputs),
            {
                spec.name: _tensor(expected[index], spec, f"validation_data[{index}]").array
                for spec in model.outputs
                if expected and spec.name in expected[index]
            },
        )
        for index, entry in enumerate(data)
    ]


def _entries(document: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    """A list of objects; those of streams, which are lists of objects, one after the other."""
    listed = document.get(name, [])
    if not isinstance(listed, list):
        raise ValueError(f"{name}: expected a list, got {listed!r:.60}")
    entries = [each for entry in listed for each in (entry if isinstance(entry, list) else [entry])]
    for index, entry in enumerate(entries):
        if not isinstance(entry, dict):
            raise ValueError(f"{name}[{index}]: expected an object, got {entry!r:.60}")
    return entries


def _tensor(entry: Mapping[str, Any], spec: TensorSpec, where: str) -> Tensor:
    """A tensor of one row: flat data, or an object of `content` or `b64`, and `shape`."""
    if spec.name not in entry:
        raise ValueError(f"{where}: no '{spec.name}'")
    value = entry[spec.name]
    given: Mapping[str, Any] = value if isinstance(value, dict) else {"content": value}
    shape = given.get("shape", list(spec.dims))
    if not _is_shape(shape) or not fits(shape, spec.dims):
        raise ValueError(
            f"{where}: '{spec.name}' has the shape {list(spec.dims)}; give the one of the data by "
            f'{{"content": […], "shape": […]}} or by --shape'
        )
    header = TensorHeader(spec.name, spec.datatype, tuple(shape), prod(shape))
    if isinstance(given.get("b64"), str):
        array = raw_tensors.decode(base64.b64decode(given["b64"]), header, "file")
    elif "content" in given:
        array = json_tensors.decode(given["content"], header, f"{where}.{spec.name}")
    else:
        raise ValueError(f"{where}: '{spec.name}' has neither content nor a text b64")
    return Tensor(spec.name, spec.datatype, array)


def _is_shape(shape: object) -> bool:
    return isinstance(shape, list) and all(type(dim) is int and dim >= 0 for dim in shape)
