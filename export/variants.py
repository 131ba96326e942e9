"""Models of lower precision beside the fp32 one: made, held against it, kept or dropped.

A variant must be right: lose no more of the test set's right answers than allowed. Where its rows
depend on their neighbours, as they do where each run takes its ranges from the whole batch, it is
measured and served row by row. `auto` keeps what is faster besides, at every batch size measured.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from export import accuracy, candidates, samples, speed
from export.candidates import Baseline, Candidate, Precision
from export.errors import AccuracyRefused, GateRefused, VariantRefused
from export.job import AUTO, Job
from export.publish import Dropped
from export.runners import Runner, onnx_runner
from serving.passport import AccuracyProof, Measured, RowsProof, SpeedProof, VariantProof
from serving.types import Array
from training.checkpoint import Checkpoint

ONLY_FP32: Final = {"language": "language models", "translation": "translators"}


@dataclass(frozen=True, slots=True)
class Variant:
    """A model that passed its gates. `max_batch_size` is 1 where rows depend on each other."""

    precision: Precision
    graph: bytes
    max_batch_size: int
    measured: Measured
    rows: RowsProof | None
    proof: VariantProof


def check(job: Job, checkpoint: Checkpoint) -> None:
    """Raises VariantRefused, before any work, for a precision asked for that cannot be had."""
    for precision in _wanted(job):
        if (missing := _missing(precision, job, checkpoint)) and AUTO not in job.variants:
            raise VariantRefused(f"{precision} cannot be had: {missing}")


def make(job: Job, base: Baseline) -> Iterator[Variant | Dropped]:
    """What becomes of each precision but fp32. With `auto` it is dropped for what GateRefused is
    raised for without, and where it is not faster."""
    for precision in _wanted(job):
        if missing := _missing(precision, job, base.checkpoint):
            yield Dropped(precision, missing)
            continue
        try:
            yield _made(precision, base, job)
        except GateRefused as refused:
            if AUTO not in job.variants:
                raise
            yield Dropped(precision, str(refused))


def _wanted(job: Job) -> tuple[Precision, ...]:
    auto = AUTO in job.variants
    return tuple(each for each in candidates.MAKERS if auto or each in job.variants)


def _missing(precision: Precision, job: Job, checkpoint: Checkpoint) -> str:
    """What there is not; empty if all is there."""
    if (kind := ONLY_FP32.get(checkpoint.task)) is not None:
        return f"{kind} are exported in fp32 only"
    if job.part and precision == "int8":
        return "there are no training samples in terms of a part to take the ranges from"
    return ""


def _made(precision: Precision, base: Baseline, job: Job) -> Variant | Dropped:
    """The speed is measured before the right answers, which of many texts take minutes: what is
    to be dropped need not be counted."""
    candidate = candidates.MAKERS[precision](base, job)
    speeds = tuple(_speed(candidate, base))
    if AUTO in job.variants and (slow := speed.slower(speeds)):
        return Dropped(precision, _not_faster(slow, candidate))
    value = accuracy.measure(candidate.runner(), base.dataset, base.checkpoint)
    loss = loss_of(value, base.measured)
    if not loss <= job.max_loss:
        raise AccuracyRefused(_refusal(precision, value, loss, base.measured, job.max_loss))
    return Variant(
        precision=precision,
        graph=candidate.graph,
        max_batch_size=candidate.max_batch_size,
        measured=base.measured.model_copy(update={"value": value}),
        rows=candidate.rows,
        proof=VariantProof(
            precision=precision,
            method=candidate.method,
            calibration_n=candidate.calibration_n,
            fp32_sha256=sha256(base.graph).hexdigest(),
            fp32_value=base.measured.value,
            loss=loss,
            max_loss=job.max_loss,
            parity=candidate.parity,
            speed=speeds,
            machine=candidate.place.machine,
        ),
    )


def loss_of(value: float, fp32: Measured) -> float:
    """In points of accuracy, or in per cent of the error."""
    if isinstance(fp32, AccuracyProof):
        return round(100 * (fp32.value - value), 6)
    return round(100 * (value / fp32.value - 1), 6) if fp32.value else 100 * value


def _refusal(precision: str, value: float, loss: float, fp32: Measured, max_loss: float) -> str:
    if isinstance(fp32, AccuracyProof):
        return (
            f"{precision} is right on {value:.2%} of {fp32.n} test samples, fp32 on "
            f"{fp32.value:.2%}: {loss:.2f} points less, and at most {max_loss:g} may be lost"
        )
    return (
        f"{precision} has an error of {value:.6g} over {fp32.n} test samples, fp32 "
        f"{fp32.value:.6g}: {loss:.2f} % more, and at most {max_loss:g} % may be added"
    )


def _not_faster(slow: str, candidate: Candidate) -> str:
    lacking = candidate.place.lacking
    return f"not faster: {slow}" + (f"; on a GPU it may be: {lacking}" if lacking else "")


def _speed(candidate: Candidate, base: Baseline) -> Iterator[SpeedProof]:
    """At one row and at the largest batch, which a variant without batches takes row by row."""
    where = candidate.place
    fp32, variant = onnx_runner(base.graph, 1, where.provider), candidate.runner(threads=1)
    real = samples.real(base.dataset.test_x, base.max_batch_size)
    for size in sorted({1, base.max_batch_size}):
        batch = real.alone(0) if size == 1 else real.batch(slice(0, size))
        yield speed.compare(_on(fp32, batch), _on(variant, batch), size, where.clock)


def _on(runner: Runner, batch: Array) -> Callable[[], object]:
    return lambda: runner(batch)
