"""Examples whose numbers have names: JSON objects and CSV lines, by the columns of the model."""

import csv
import io
import math
from collections.abc import Sequence
from typing import Any

from serving.dtypes import Datatype
from serving.errors import InvalidArgument, Malformed
from serving.types import Array, TensorSpec
from serving.wire import json_tensors
from serving.wire.fields import fault, show, tensor_header


def by_name(data: Any, columns: Sequence[str]) -> Any:
    """`data` with a list in the order of `columns` for each object that names them, at any depth.

    Where each name has a list, as series have, the columns become the last dimension. Raises
    Malformed for a name that is missing or unknown.
    """
    if type(data) is list:
        return [by_name(each, columns) for each in data]
    if type(data) is not dict:
        return data
    _check_names(list(data), columns, "inputs")
    values = [data[name] for name in columns]
    if not any(type(value) is list for value in values):
        return values
    lengths = {len(value) if type(value) is list else None for value in values}
    if len(lengths) > 1:
        raise fault("inputs", "lists of one length for all columns", data)
    return [list(row) for row in zip(*values, strict=True)]


def from_csv(content: bytes, spec: TensorSpec, columns: Sequence[str]) -> Array:
    """The examples in a table with a header, one a row; further columns are passed over.

    A line is an example; where one example is a series (`spec.dims` has two), all lines together
    are one. What the cells say is taken as exactly as JSON is. Raises InvalidArgument.
    """
    if not columns:
        raise InvalidArgument(
            f"the columns of input '{spec.name}' have no names (parameter columns), by which a "
            "table could be read; send a JSON list instead"
        )
    header, *lines = _lines(content)
    _check_names([name for name in header if name in columns], columns, "the header")
    places = [header.index(name) for name in columns]
    values = [
        value
        for number, line in enumerate(lines, 2)
        for value in _values(line, places, spec.datatype, number)
    ]
    shape = [len(lines), len(columns)]
    read = tensor_header(spec.name, spec.datatype.wire, shape, "body", ())
    array = json_tensors.decode(values, read, "body")
    return array[None] if len(spec.dims) == 2 else array


def _lines(content: bytes) -> list[list[str]]:
    try:
        lines = [line for line in csv.reader(io.StringIO(content.decode("utf-8-sig"))) if line]
    except (UnicodeDecodeError, csv.Error) as error:
        raise Malformed(f"body: expected CSV, got something else: {error}") from None
    if len(lines) < 2:
        raise Malformed(f"body: expected a header and at least one line, got {len(lines)} in all")
    return [[cell.strip() for cell in line] for line in lines]


def _values(
    line: Sequence[str], places: Sequence[int], datatype: Datatype, number: int
) -> list[Any]:
    try:
        return [_value(line[place], datatype) for place in places]
    except (IndexError, ValueError):
        raise InvalidArgument(
            f"line {number}: expected a number for each column, got {show(','.join(line))}"
        ) from None


def _value(cell: str, datatype: Datatype) -> Any:
    """What JSON would have in the place of a cell; ValueError where that is no number."""
    if datatype is Datatype.BYTES:
        return cell
    if "_" in cell:  # Python passes over it
        raise ValueError(cell)
    try:
        value: float = int(cell)
    except ValueError:
        value = float(cell)
        if math.isinf(value) and any(map(str.isdigit, cell)):  # more than a double holds
            raise
        # Tables write whole numbers with a point where others of their column have one.
        if value.is_integer() and not datatype.is_float:
            value = int(value)
    return bool(value) if datatype is Datatype.BOOL and value in (0, 1) else value


def _check_names(given: Sequence[str], columns: Sequence[str], where: str) -> None:
    if missing := [name for name in columns if name not in given]:
        raise Malformed(
            f"{where}: expected the columns {', '.join(columns)}; no {missing[0]} there"
        )
    if unknown := [name for name in given if name not in columns]:
        raise Malformed(
            f"{where}: expected the columns {', '.join(columns)}, got also {show(unknown[0])}"
        )
