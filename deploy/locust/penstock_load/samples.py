"""What is asked and what must come back, from a .npz file.

The file is one that `penstock bench --input-data` takes: an array for each input by its name, with
one row for each sample, and one for each output whose values are to be checked. `labels`, if it is
there, are the classes' names.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from itertools import cycle
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

Array: TypeAlias = npt.NDArray[Any]

_LABELS: Final = "labels"
# As far as batches and threads may change a sum of FP32.
_RELATIVE: Final = 1e-3
_ABSOLUTE: Final = 1e-4


class WrongAnswer(Exception):
    """An answer that came, and is not the right one."""


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """One request's inputs, and what its outputs must be; the first dimension is the batch."""

    inputs: Mapping[str, Array]
    expected: Mapping[str, Array]
    labels: tuple[str, ...]

    def check(self, name: str, found: Array | None) -> None:
        """Raises WrongAnswer unless `found` is what the output `name` must be."""
        wanted = self.expected[name]
        if found is None:
            raise WrongAnswer(f"no output '{name}'")
        if found.shape != wanted.shape:
            raise WrongAnswer(
                f"'{name}': expected the shape {list(wanted.shape)}, got {list(found.shape)}"
            )
        if not (is_close if wanted.dtype.kind == "f" else np.array_equal)(found, wanted):
            raise WrongAnswer(f"'{name}': other values than expected")

    def images(self) -> list[bytes]:
        """The rows of the only input as PNG files; ValueError where they are no images.

        Images are UINT8, (B, 1, height, width) or (B, 3, height, width).
        """
        if len(self.inputs) != 1:
            raise ValueError(f"an image is one input, and there are {', '.join(self.inputs)}")
        [(name, rows)] = self.inputs.items()
        if rows.dtype != np.uint8 or rows.ndim != 4 or rows.shape[1] not in (1, 3):
            raise ValueError(f"'{name}' is no image: {rows.dtype} {list(rows.shape[1:])}")
        return [_png(row) for row in rows]


def is_close(found: Array, wanted: Array) -> bool:
    """Whether floating-point values of equal shapes are the same, as far as that can be asked."""
    return np.allclose(found, wanted, rtol=_RELATIVE, atol=_ABSOLUTE)


def _png(row: Array) -> bytes:
    buffer = BytesIO()
    Image.fromarray(row[0] if len(row) == 1 else row.transpose(1, 2, 0)).save(buffer, "png")
    return buffer.getvalue()


def read(path: Path, inputs: Iterable[str], rows: int) -> list[Sample]:
    """The samples of a file for a model with these inputs, `rows` rows each; ValueError if bad."""
    with np.load(path, allow_pickle=False) as file:
        arrays = {name: file[name] for name in file.files}
    labels = tuple(map(str, arrays.pop(_LABELS, ())))
    missing = set(inputs) - arrays.keys()
    if missing:
        raise ValueError(f"{path}: no array '{min(missing)}'; there are {', '.join(arrays)}")
    [count, *others] = {len(array) for array in arrays.values()}
    if others or count < rows:
        raise ValueError(f"{path}: expected as many rows for every name, and {rows} or more")
    given = {name: arrays.pop(name) for name in inputs}
    return [
        Sample(_rows(given, at, rows), _rows(arrays, at, rows), labels)
        for at in range(0, count - rows + 1, rows)
    ]


def _rows(arrays: Mapping[str, Array], begin: int, count: int) -> dict[str, Array]:
    return {name: array[begin : begin + count] for name, array in arrays.items()}


def endless(samples: list[Sample], first: int) -> Iterator[Sample]:
    """The samples again and again, beginning with another one for each user."""
    begin = first % len(samples)
    return cycle(samples[begin:] + samples[:begin])
