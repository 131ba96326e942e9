"""What torch and ONNX Runtime are compared on: real samples, and inputs that data rarely holds."""

from dataclasses import dataclass

import numpy as np

from serving.dtypes import from_wire
from serving.passport import SampleKind
from serving.types import Array
from training.checkpoint import Checkpoint
from training.spec import Normalisation, TensorField
from training.tokens import PADDING, UNKNOWN, longest

SEED = 0
# Inputs of floating point are tried up to this multiple of their full scale, either way.
OVERSHOOT = 10


@dataclass(frozen=True, slots=True)
class Samples:
    """`rows` are raw inputs (N, *shape); `names[i]` says what row i is. Of texts, rows are
    `padded` on the right to one length."""

    kind: SampleKind
    rows: Array
    names: tuple[str, ...]
    padded: bool = False

    def batch(self, rows: slice) -> Array:
        """These rows together."""
        batch: Array = self.rows[rows]
        return batch

    def alone(self, index: int) -> Array:
        """Row `index` as a batch of its own, without its padding."""
        row: Array = self.rows[index][None]
        if not self.padded:
            return row
        return row[:, : max(1, 1 + int(np.flatnonzero(row[0]).max(initial=0)))]


def real(test_x: Array, count: int) -> Samples:
    """The first `count` test samples, from the start again where there are fewer."""
    index = np.arange(count) % len(test_x)
    names = tuple(f"test sample {i}" for i in index)
    return Samples("real", test_x[index], names, padded=test_x.dtype == np.int64)


def extreme(checkpoint: Checkpoint, count: int) -> Samples:
    """`count` inputs that data rarely holds."""
    if checkpoint.task == "text":
        vocabulary = int(checkpoint.architecture_config["vocabulary"])
        return extreme_texts(vocabulary, longest(checkpoint.tokenizer), count)
    return extremes(checkpoint.signature.inputs[0], checkpoint.normalisation, count)


def extremes(field: TensorField, normalisation: Normalisation, count: int) -> Samples:
    """`count` rows that take turns in the patterns, so that every batch mixes them."""
    patterns = _patterns(field, normalisation)
    names = [list(patterns)[i % len(patterns)] for i in range(count)]
    random = np.random.default_rng(SEED)
    rows = np.stack([_draw(patterns[name], field, random) for name in names])
    return Samples("extreme", rows, tuple(names))


def extreme_texts(vocabulary: int, length: int, count: int) -> Samples:
    """`count` texts that take turns: of no token, of one, of `length`; of numbers within the
    vocabulary and out of it."""
    random = np.random.default_rng(SEED)
    texts = {
        "no token": [],
        "one token": [vocabulary - 1],
        "unknown tokens": [UNKNOWN] * (length // 2),
        "random tokens": random.integers(1, vocabulary, length).tolist(),
        "numbers of no token": [vocabulary, -1, np.iinfo(np.int64).max, np.iinfo(np.int64).min],
        "a gap": [UNKNOWN, PADDING, vocabulary - 1],
    }
    names = [list(texts)[i % len(texts)] for i in range(count)]
    rows = np.full((count, length), PADDING, np.int64)
    for row, name in zip(rows, names, strict=True):
        row[: len(texts[name])] = texts[name]
    return Samples("extreme", rows, tuple(names), padded=True)


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
