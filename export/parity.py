"""The parity gate: ONNX Runtime must give what torch gives, whatever the batch.

Checked at several batch sizes, on real and on extreme samples, for every output:
- against torch, |a - b| <= absolute + relative * |b| for each element, b being torch's;
- against itself: a row answered within a batch and the same row answered alone, by the same rule;
  texts are padded in a batch, and not when they are alone.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import numpy as np

from export.errors import ParityRefused
from export.job import Tolerance
from export.onnx_model import Outputs
from serving.passport import BatchParity, ParityProof, SampleKind
from serving.types import Array

Given = TypeVar("Given")
Given_co = TypeVar("Given_co", covariant=True)


class Samples(Protocol[Given_co]):
    """Rows that a model is tried on, in the form in which it takes them; `names` says what each
    is."""

    @property
    def kind(self) -> SampleKind: ...

    @property
    def names(self) -> tuple[str, ...]: ...

    def batch(self, rows: slice) -> Given_co:
        """These rows together."""

    def alone(self, index: int) -> Given_co:
        """Row `index` as a batch of its own."""


@dataclass(frozen=True, slots=True)
class Difference:
    """The largest ones seen. The relative one is taken over values larger than the absolute
    tolerance, as below it a share says nothing."""

    absolute: float = 0.0
    relative: float = 0.0

    def __or__(self, other: "Difference") -> "Difference":
        return Difference(max(self.absolute, other.absolute), max(self.relative, other.relative))


@dataclass(frozen=True, slots=True)
class Names:
    """Who is compared, for the person who reads of a difference."""

    candidate: str
    reference: str


ONNX_RUNTIME = "ONNX Runtime"
TORCH = Names(ONNX_RUNTIME, "torch")


def batch_sizes(max_batch_size: int) -> tuple[int, ...]:
    """One row, two, an odd number, and as many as the server will ever send."""
    return tuple(sorted({size for size in (1, 2, 7) if size < max_batch_size} | {max_batch_size}))


@dataclass(frozen=True, slots=True)
class Batch:
    """The rows `start` to `start + size` of `samples`."""

    samples: Samples[object]
    start: int
    size: int

    @property
    def rows(self) -> slice:
        return slice(self.start, self.start + self.size)

    def locate(self, output: str, index: Sequence[int]) -> str:
        """Where an element of an output lies, for the person who has to look there."""
        row = self.samples.names[self.start + index[0]]
        kind = self.samples.kind
        return f"{output}{list(index)} at batch size {self.size}, {kind} sample '{row}'"


def check(
    reference: Callable[[Given], Outputs],
    candidate: Callable[[Given], Outputs],
    samples: Iterable[Samples[Given]],
    sizes: Sequence[int],
    tolerance: Tolerance,
    names: Names = TORCH,
) -> ParityProof:
    """What was measured, per batch size and kind of sample; ParityRefused above the tolerance."""
    measured = []
    for kind in samples:
        alone = [candidate(kind.alone(index)) for index in range(len(kind.names))]
        for size in sizes:
            worst = Difference()
            for batch in batches(kind, size):
                rows = kind.batch(batch.rows)
                answer = candidate(rows)
                check_rows(answer, size)
                worst |= compare(
                    answer, reference(rows), names.reference, batch, tolerance, names.candidate
                )
                expected = stack(alone[batch.rows])
                compare(answer, expected, "the row alone", batch, tolerance, names.candidate)
            measured.append(record(kind, size, worst))
    return ParityProof(
        absolute_tolerance=tolerance.absolute,
        relative_tolerance=tolerance.relative,
        batches=tuple(measured),
    )


def check_rows(answer: Outputs, size: int) -> None:
    """ParityRefused where an output has not one row for each of the batch, which a server could
    not tell apart; put together, rows alone may well be equal to it."""
    for name, array in answer.items():
        if array.shape[:1] != (size,):
            raise ParityRefused(
                f"{name} has the shape {list(array.shape)} for a batch of {size}, not a row "
                "for each of the batch's"
            )


def compare(
    answer: Outputs,
    expected: Outputs,
    source: str,
    batch: Batch,
    tolerance: Tolerance,
    candidate: str = ONNX_RUNTIME,
) -> Difference:
    """The largest difference between what `candidate` gives and `source`, over all outputs;
    ParityRefused if any is above the tolerance."""
    if set(answer) != set(expected):
        raise ParityRefused(f"the outputs are {sorted(answer)}, of {source} {sorted(expected)}")
    largest = Difference()
    for name, wanted in expected.items():
        found = answer[name]
        if (found.shape, found.dtype) != (wanted.shape, wanted.dtype):
            raise ParityRefused(
                f"{name} is {found.dtype}{list(found.shape)} at batch size {batch.size}, "
                f"of {source} {wanted.dtype}{list(wanted.shape)}"
            )
        told = (candidate, source)
        largest |= _compare(name, found, wanted, told, batch, tolerance)
    return largest


def _compare(
    name: str,
    found: Array,
    wanted: Array,
    told: tuple[str, str],
    batch: Batch,
    tolerance: Tolerance,
) -> Difference:
    if wanted.dtype.kind == "O":  # texts, which are equal or not
        return _compare_texts(name, found, wanted, told, batch)
    found, wanted = found.astype(np.float64), wanted.astype(np.float64)
    with np.errstate(invalid="ignore"):  # infinity less infinity: NaN, and so refused
        difference = np.abs(found - wanted)
        excess = difference - (tolerance.absolute + tolerance.relative * np.abs(wanted))
    # NaN compares as false, hence "not all within" rather than "any above".
    if not np.all(excess <= 0):
        raise ParityRefused(_refusal(name, found, wanted, excess, told, batch, tolerance))
    sizable = np.abs(wanted) > tolerance.absolute
    shares = difference[sizable] / np.abs(wanted[sizable])
    return Difference(float(difference.max(initial=0.0)), float(shares.max(initial=0.0)))


def _compare_texts(
    name: str, found: Array, wanted: Array, told: tuple[str, str], batch: Batch
) -> Difference:
    for index in np.argwhere(found != wanted):
        place = tuple(int(i) for i in index)
        raise ParityRefused(
            f"{batch.locate(name, place)}: {told[0]} gives {found[place]!r}, {told[1]} "
            f"{wanted[place]!r}"
        )
    return Difference()


def _refusal(
    name: str,
    found: Array,
    wanted: Array,
    excess: Array,
    told: tuple[str, str],
    batch: Batch,
    tolerance: Tolerance,
) -> str:
    worst = np.unravel_index(np.argmax(np.where(np.isnan(excess), np.inf, excess)), excess.shape)
    index = [int(i) for i in worst]
    a, b = float(found[worst]), float(wanted[worst])
    gives = f"{batch.locate(name, index)}: {told[0]} gives {a:.7g}, {told[1]} {b:.7g}"
    if not np.isfinite(b):
        return f"{gives}; a model has to answer with numbers"
    allowed = tolerance.absolute + tolerance.relative * abs(b)
    return (
        f"{gives}; they differ by {abs(a - b):.3g}, but at most {allowed:.3g} is allowed "
        f"({tolerance.absolute:g} + {tolerance.relative:g} of the value)"
    )


def batches(samples: Samples[object], size: int) -> Iterator[Batch]:
    """Full batches only; with a remainder, the last rows stay out of this size."""
    for start in range(0, len(samples.names) - size + 1, size):
        yield Batch(samples, start, size)


def stack(answers: Sequence[Outputs]) -> Outputs:
    """Rows that were answered alone, together; ParityRefused where one is larger than another."""
    for name, first in answers[0].items():
        for answer in answers:
            if answer[name].shape[1:] != first.shape[1:]:
                raise ParityRefused(
                    f"{name} has the shape {list(first.shape)} for one row and "
                    f"{list(answer[name].shape)} for another"
                )
    return {name: np.concatenate([answer[name] for answer in answers]) for name in answers[0]}


def record(samples: Samples[object], size: int, worst: Difference) -> BatchParity:
    return BatchParity(
        batch_size=size,
        samples=samples.kind,
        max_absolute=worst.absolute,
        max_relative=worst.relative,
    )
