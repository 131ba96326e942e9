"""The gate of the batch: whether a model answers each row as if it were alone.

A server merges the requests of strangers into batches. A model that mixes its rows, such as one
whose first dimension is time, would give each of them an answer that depends on the others.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from export import parity
from export.errors import GateRefused
from export.job import Tolerance
from export.onnx_model import Outputs
from export.parity import Given, Samples
from serving.passport import BatchParity, RowsProof
from serving.types import Array


def check(
    model: Callable[[Given], Outputs],
    samples: Samples[Given],
    sizes: Sequence[int],
    tolerance: Tolerance,
) -> RowsProof:
    """Whether rows are independent, and what was measured until then.

    Raises GateRefused where a row alone cannot be answered, or by what is no number."""
    alone = [numbers(model(samples.alone(row))) for row in range(len(samples.names))]
    measured: list[BatchParity] = []
    reason = ""
    try:
        measured.extend(_at(model, samples, alone, size, tolerance) for size in sizes)
    except GateRefused as refused:
        reason = str(refused)
    return RowsProof(
        absolute_tolerance=tolerance.absolute,
        relative_tolerance=tolerance.relative,
        independent=not reason,
        reason=reason,
        batches=tuple(measured),
    )


def unbatched(reason: str, inputs: str, tolerance: Tolerance) -> RowsProof:
    """The proof of a model whose inputs and outputs have no rows."""
    return RowsProof(
        absolute_tolerance=tolerance.absolute,
        relative_tolerance=tolerance.relative,
        independent=False,
        reason=reason,
        inputs=inputs,
    )


def largest(proof: RowsProof) -> int:
    """The largest batch that was proven; 0 for a model that does not batch."""
    return max(each.batch_size for each in proof.batches) if proof.independent else 0


def _at(
    model: Callable[[Given], Outputs],
    samples: Samples[Given],
    alone: Sequence[Outputs],
    size: int,
    tolerance: Tolerance,
) -> BatchParity:
    worst = parity.Difference()
    for batch in parity.batches(samples, size):
        answer = numbers(model(samples.batch(batch.rows)))
        parity.check_rows(answer, size)
        expected = parity.stack(alone[batch.rows])
        worst |= parity.compare(answer, expected, "the row alone", batch, tolerance)
    return parity.record(samples, size, worst)


def numbers(answer: Outputs) -> Mapping[str, Array]:
    """The outputs; infinities, which some models mask with, as the largest numbers, so that they
    equal each other. GateRefused for NaN, which is no answer."""
    checked = {}
    for name, array in answer.items():
        checked[name] = array
        if array.dtype.kind == "f":
            if np.isnan(array).any():
                raise GateRefused(
                    f"{name} is NaN, which is no answer: its weights are damaged, or "
                    "these inputs are nothing that it was made for"
                )
            checked[name] = np.nan_to_num(array)
    return checked
