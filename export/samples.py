"""What torch and ONNX Runtime are compared on: real samples, and inputs that data rarely holds."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from serving.dtypes import from_wire
from serving.types import Array
from training.spec import Normalisation, TensorField

Kind: TypeAlias = Literal["real", "extreme"]

SEED = 0
# Inputs of floating point are tried up to this multiple of their full scale, either way.
OVERSHOOT = 10


@dataclass(frozen=True, slots=True)
class Samples:
    """`rows` are raw inputs (N, *shape); `names[i]` says what row i is."""

    kind: Kind
    rows: Array
    names: tuple[str, ...]


def real(test_x: Array, count: int) -> Samples:
    """The first `count` test samples, from the start again where there are fewer."""
    index = np.arange(count) % len(test_x)
    return Samples("real", test_x[index], tuple(f"test sample {i}" for i in index))


def extremes(field: TensorField, normalisation: Normalisation, count: int) -> Samples:
    """`count` rows that take turns in the patterns, so that every batch mixes them."""
    patterns = _patterns(field, normalisation)
    names = [list(patterns)[i % len(patterns)] for i in range(count)]
    random = np.random.default_rng(SEED)
    rows = np.stack([_draw(patterns[name], field, random) for name in names])
    return Samples("extreme", rows, tuple(names))


@dataclass(frozen=True, slots=True)
class _Pattern:
    """Values between `low` and `high`: at random, or else by turns like a checkerboard."""

    low: float
    high: float
    random: bool = False


def _patterns(field: TensorField, normalisation: Normalisation) -> dict[str, _Pattern]:
    datatype = from_wire(field.datatype)
    # The raw value that `scale` maps to 1: white for a pixel, 16 for scikit-learn's digits.
    full = 1 / normalisation.scale if datatype.is_float else float(np.iinfo(datatype.numpy).max)
    patterns = {
        "zeros": _Pattern(0, 0),
        "full scale": _Pattern(full, full),
        "checkerboard": _Pattern(0, full),
        "inverse checkerboard": _Pattern(full, 0),
        "random": _Pattern(0, full, random=True),
    }
    if datatype.is_float:
        large = OVERSHOOT * full
        tiny = float(np.finfo(datatype.numpy).tiny)
        patterns |= {
            "large checkerboard": _Pattern(-large, large),
            "large random": _Pattern(-large, large, random=True),
            "tiny checkerboard": _Pattern(-tiny, tiny),
        }
    return patterns


def _draw(pattern: _Pattern, field: TensorField, random: np.random.Generator) -> Array:
    dtype = from_wire(field.datatype).numpy
    if pattern.random:
        drawn = random.uniform(pattern.low, pattern.high, field.shape)
        return drawn.astype(dtype) if dtype.kind == "f" else drawn.round().astype(dtype)
    odd = np.indices(field.shape).sum(axis=0) % 2
    return np.where(odd, pattern.high, pattern.low).astype(dtype)
