"""Whether one session answers as another does, to the same inputs.

As the gates of an export have it: |a - b| <= absolute + relative * |b| for each element, b being
what it is held against; both are one tolerance here. What is no floating-point number is equal.
"""

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np

from serving.dtypes import Datatype
from serving.engine.backends.base import Session
from serving.errors import LoadFailed, ServingError
from serving.types import Array

# Inputs, and of how many rows.
Given: TypeAlias = tuple[int, Mapping[str, Array]]

# The runs that a time is the median of.
_RUNS: Final = 3
# What is held of inputs and answers, as long as the other session is being made.
_BYTES: Final = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """What a session answered to inputs of so many rows, and in how many nanoseconds."""

    rows: int
    inputs: Mapping[str, Array]
    answers: Mapping[str, Array]
    took: int


@dataclass(frozen=True, slots=True)
class Agreement:
    """The largest difference in all answers, and for each trial its rows and both times."""

    difference: float
    times: tuple[tuple[int, int, int], ...]

    def __str__(self) -> str:
        shown = dict.fromkeys((self.times[0], self.times[-1]))
        times = ", ".join(
            f"{rows} row{'s' * (rows > 1)} {before / 1e6:.3g} -> {after / 1e6:.3g} ms"
            for rows, before, after in shown
        )
        return f"parity max difference {self.difference:.2g}, p50 of {times}"


class _Output(NamedTuple):
    """What is compared, as it is told."""

    name: str
    datatype: Datatype
    rows: int

    def at(self, place: Sequence[Any]) -> str:
        index = [int(i) for i in place]
        return f"output '{self.name}'{index if index else ''} at batch size {self.rows}"

    def __str__(self) -> str:
        return self.at(())


class Reference:
    """A session's answers, which another's are held against."""

    def __init__(
        self,
        session: Session,
        outputs: Mapping[str, Datatype],
        inputs: Iterable[Given],
        tolerance: float,
    ) -> None:
        """Runs `session` on the first of `inputs`, as many as 64 MiB hold with the answers.

        One that it refuses ends them: made-up inputs may be nothing to a model.
        """
        self._outputs = outputs
        self._tolerance = tolerance
        self._trials: list[Trial] = []
        self._refusal = ""
        held = 0
        try:
            for rows, given in inputs:
                held += _size(given)
                if self._trials and held > _BYTES:
                    break
                trial = _try(session, rows, given, outputs)
                held += _size(trial.answers)
                self._trials.append(trial)
        except ServingError as error:
            self._refusal = f" ({error.message})"

    def check_inputs(self) -> None:
        """LoadFailed where there are none to compare by."""
        if not self._trials:
            raise LoadFailed(
                f"it refuses made-up inputs{self._refusal}, and there are no others to compare "
                "the answers by: give real ones as model_warmup"
            )

    def check(self, session: Session) -> Agreement:
        """How far `session` answers otherwise; LoadFailed where that is too far."""
        worst, times = 0.0, []
        for trial in self._trials:
            answered = _try(session, trial.rows, trial.inputs, self._outputs)
            times.append((trial.rows, trial.took, answered.took))
            for name, datatype in self._outputs.items():
                found, wanted = answered.answers[name], trial.answers[name]
                output = _Output(name, datatype, trial.rows)
                worst = max(worst, self._difference(output, found, wanted))
        return Agreement(worst, tuple(times))

    def _difference(self, output: _Output, found: Array, wanted: Array) -> float:
        if found.shape != wanted.shape:
            raise LoadFailed(
                f"{output} has the shape {list(found.shape)}, expected {list(wanted.shape)}"
            )
        if not (output.datatype.is_float or output.datatype is Datatype.BF16):
            return _unequal(output, found, wanted)
        a, b = numbers(found, output.datatype), numbers(wanted, output.datatype)
        with np.errstate(invalid="ignore"):  # infinity and another: NaN, and so refused
            difference = np.where(_same(a, b), 0.0, np.abs(a - b))
            share = difference / (1 + np.where(_same(a, b), 0.0, np.abs(b)))
        # NaN compares as false, hence "not all within" rather than "any above".
        if not np.all(share <= self._tolerance):
            flat = np.argmax(np.where(np.isnan(share), np.inf, share))
            worst = np.unravel_index(flat, share.shape)
            raise LoadFailed(
                f"{output.at(worst)} is {a[worst]:.7g}, expected {b[worst]:.7g} within "
                f"{self._tolerance:g} + {self._tolerance:g} of the value "
                "(parameter accelerator_tolerance)"
            )
        return float(difference.max(initial=0.0))


def _unequal(output: _Output, found: Array, wanted: Array) -> float:
    for place in np.argwhere(np.asarray(found != wanted)):
        index = tuple(place)
        raise LoadFailed(
            f"{output.at(index)} is {found[index]}, expected {wanted[index]}: where made-up inputs "
            "decide it, give real ones as model_warmup"
        )
    return 0.0


def _try(
    session: Session, rows: int, inputs: Mapping[str, Array], outputs: Mapping[str, Datatype]
) -> Trial:
    names, took = list(outputs), []
    for _ in range(_RUNS):
        began = time.monotonic_ns()
        answers = session.run(inputs, names)
        took.append(time.monotonic_ns() - began)
    return Trial(rows, inputs, dict(zip(names, answers, strict=True)), int(median(took)))


def _size(arrays: Mapping[str, Array]) -> int:
    return sum(array.nbytes for array in arrays.values())


def numbers(array: Array, datatype: Datatype) -> "np.ndarray[Any, np.dtype[np.float64]]":
    """The numbers in an array of floats, or of the words that stand for those of BF16."""
    if datatype is Datatype.BF16:  # the upper half of a 32-bit float
        return (array.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
    return array.astype(np.float64)


def _same(a: Array, b: Array) -> Array:
    same: Array = (a == b) | (np.isnan(a) & np.isnan(b))
    return same
