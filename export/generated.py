"""Inputs for a model of which nothing is known but its signature: drawn at random, or given.

Of variable dimensions and of the numbers that integers may be, such as those of tokens, a graph
says nothing. So several guesses are made, and the first one that the model runs on is taken.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np

from export.errors import FileRefused, GateRefused
from export.onnx_model import Feed, held
from serving.passport import SampleKind
from serving.types import Array, TensorSpec, fits

SEED: Final = 0
SIZES: Final = (8, 32, 224, 1)  # of variable dimensions
INTEGERS: Final = (100, 2)  # integers are drawn from 0 up to this, which is left out
LARGE: Final = 10  # extremes of floating point reach up to this, either way
RESIZED_ROWS: Final = 7
# What a variable dimension becomes in its second size, the first that the model runs on.
_OTHER_SIZES: Final[Sequence[Callable[[int], int]]] = (
    lambda size: 2 * size,
    lambda size: size + 1,
    lambda size: (size + 1) // 2,
)


@dataclass(frozen=True, slots=True)
class Feeds:
    """`arrays` holds the rows of each input, (N, ...), or one whole input where a model does not
    batch, which is then one row."""

    kind: SampleKind
    arrays: Mapping[str, Array]
    names: tuple[str, ...]

    def batch(self, rows: slice) -> Feed:
        return {name: array[rows] for name, array in self.arrays.items()}

    def alone(self, index: int) -> Feed:
        return self.batch(slice(index, index + 1))


def feeds(
    sampled: Path | None,
    specs: Sequence[TensorSpec],
    count: int,
    runs: Callable[[Feed], object],
) -> tuple[Feeds, str]:
    """`count` rows out of the file `sampled`, or by chance where there is none; see below."""
    if sampled is None:
        return random(specs, count, runs)
    return sample(sampled, specs, count)


def random(
    specs: Sequence[TensorSpec], count: int, runs: Callable[[Feed], object]
) -> tuple[Feeds, str]:
    """`count` rows for inputs whose `dims` are those of one row, and what they are, in words.

    GateRefused, with the reason of the last guess, where none `runs` on a row.
    """
    refusal: GateRefused | None = None
    for size, below in _guesses(specs):
        try:
            row = draw(specs, 1, size, below).alone(0)
            runs(row)
            runs(_largest(row, below))  # which of many rows one will hold
        except GateRefused as error:
            refusal = error
            continue
        return draw(specs, count, size, below), _described(specs, size, below)
    assert refusal is not None
    raise unsuited(refusal) from refusal


def unsuited(refusal: GateRefused) -> GateRefused:
    """The refusal of a model that ran on nothing but what was drawn, with the cure."""
    return GateRefused(
        f"{refusal}\nNo generated input suits the model; give it rows of real ones by --sample"
    )


def draw(specs: Sequence[TensorSpec], count: int, size: int, below: int) -> Feeds:
    """Floats from -1 to 1, integers from 0 up to `below`; variable dimensions are of `size`.

    GateRefused where there is no room for them."""
    generator = np.random.default_rng(SEED)
    try:
        arrays = {
            spec.name: _draw(held(spec.datatype), (count, *_shape(spec, size)), below, generator)
            for spec in specs
        }
    except (MemoryError, ValueError) as error:  # the latter of more than can be addressed
        rows = "a row" if count == 1 else f"{count} rows"
        raise GateRefused(f"{rows} of its inputs cannot be held in memory: {error}") from error
    return Feeds("random", arrays, tuple(f"random {row}" for row in range(count)))


def _largest(row: Feed, below: int) -> Feed:
    return {
        name: np.full_like(array, below - 1) if array.dtype.kind in "iu" else array
        for name, array in row.items()
    }


def extreme(random: Feeds) -> Feeds:
    """Rows like the random ones that take turns to be all zeros, large, large with both signs, and
    the smallest numbers; integers turn to 0 and to the largest one that was drawn."""
    patterns = ("zeros", "large", "large random", "tiny")
    names = tuple(patterns[row % len(patterns)] for row in range(len(random.names)))
    arrays = {}
    for name, array in random.arrays.items():
        arrays[name] = array.copy()
        for row, pattern in enumerate(names):
            arrays[name][row] = _extreme(pattern, array, row)
    return Feeds("extreme", arrays, names)


def resized(
    feeds: Feeds, specs: Sequence[TensorSpec], runs: Callable[[Feed], object]
) -> Feeds | None:
    """Some of the rows with variable dimensions of another size, where what they hold is repeated
    or cut off. None where no dimension varies, or the model `runs` on no other size."""
    if not any(-1 in spec.dims for spec in specs):
        return None
    names = tuple(f"{name}, of another size" for name in feeds.names[:RESIZED_ROWS])
    for other in _OTHER_SIZES:
        arrays = {spec.name: _resized(feeds.arrays[spec.name], spec, other) for spec in specs}
        made = Feeds(feeds.kind, arrays, names)
        with suppress(GateRefused):
            runs(made.alone(0))
            return made
    return None


def _resized(array: Array, spec: TensorSpec, other: Callable[[int], int]) -> Array:
    made = array[:RESIZED_ROWS]
    for axis, size in enumerate(spec.dims, 1):
        if size == -1:
            made = made.take(np.arange(other(made.shape[axis])), axis, mode="wrap")
    return made


def sample(path: Path, specs: Sequence[TensorSpec], count: int) -> tuple[Feeds, str]:
    """The rows of the arrays of an .npz file, from the start again up to `count`.

    FileRefused where they are not those of `specs`, whose `dims` are those of one row."""
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: np.asarray(file[name]) for name in file.files}
    except Exception as error:  # a damaged file: whatever the readers trip over
        # NumPy says of what it does not know that it may be a pickle, and how to trust it.
        why = error if isinstance(error, OSError) else "it is none, or a broken one"
        raise FileRefused(f"{path}: cannot be read as an .npz file of arrays: {why}") from error
    lengths = {array.shape[:1] for array in arrays.values()}
    fit = set(arrays) == {spec.name for spec in specs} and all(
        _fits(arrays[spec.name], spec) for spec in specs
    )
    if not fit or len(lengths) != 1 or lengths & {(), (0,)}:
        wanted = ", ".join(
            f"{spec.name} [{', '.join(map(str, ('N', *spec.dims)))}] of {spec.datatype.wire}"
            for spec in specs
        )
        raise FileRefused(f"{path}: must hold N rows for each input and no other array: {wanted}")
    ((rows,),) = lengths
    index = np.arange(count) % rows
    taken = {spec.name: arrays[spec.name][index].astype(held(spec.datatype)) for spec in specs}
    return Feeds("real", taken, tuple(f"row {row}" for row in index)), f"{rows} rows of {path.name}"


def _fits(array: Array, spec: TensorSpec) -> bool:
    """Whether rows of `spec` can be made of the array without another meaning."""
    return fits(array.shape[1:], spec.dims) and np.can_cast(
        array.dtype, held(spec.datatype), "same_kind"
    )


def _guesses(specs: Sequence[TensorSpec]) -> Iterator[tuple[int, int]]:
    variable = any(-1 in spec.dims for spec in specs)
    integers = any(held(spec.datatype).kind in "iu" for spec in specs)
    for size in SIZES if variable else SIZES[:1]:
        for below in INTEGERS if integers else INTEGERS[:1]:
            yield size, below


def _described(specs: Sequence[TensorSpec], size: int, below: int) -> str:
    kinds = {held(spec.datatype).kind for spec in specs}
    parts = ["floats from -1 to 1"] if kinds & {"f"} else []
    parts += [f"integers from 0 to {below - 1}"] if kinds & {"i", "u"} else []
    parts += [f"variable dimensions of {size}"] if any(-1 in spec.dims for spec in specs) else []
    return ", ".join(parts) or "random values"


def _shape(spec: TensorSpec, size: int) -> tuple[int, ...]:
    return tuple(size if dim == -1 else dim for dim in spec.dims)


def _draw(
    kind: "np.dtype[Any]", shape: tuple[int, ...], below: int, generator: np.random.Generator
) -> Array:
    match kind.kind:
        case "f":
            return generator.uniform(-1, 1, shape).astype(kind)
        case "b":
            return generator.integers(0, 2, shape).astype(bool)
        case "O":
            return generator.integers(0, 100, shape).astype(str).astype(object)
    return generator.integers(0, below, shape).astype(kind)


def _extreme(pattern: str, array: Array, row: int) -> Array:
    drawn: Array = array[row]
    if array.dtype.kind == "f":
        tiny = np.finfo(array.dtype).tiny
        scale = {"zeros": 0, "large random": LARGE, "tiny": tiny}
        return np.full_like(drawn, LARGE) if pattern == "large" else drawn * scale[pattern]
    if array.dtype.kind in "iu" and pattern in {"zeros", "large"}:
        return np.full_like(drawn, 0 if pattern == "zeros" else array.max())
    return drawn
