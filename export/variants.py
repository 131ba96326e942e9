"""Models of lower precision beside the fp32 one: made, held against it, kept or dropped.

A variant must be right: lose no more of the test set's right answers than allowed. Where its rows
depend on their neighbours, as they do where each run takes its ranges from the whole batch, it is
measured and served row by row. `auto` keeps what is faster besides, at every batch size measured.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final, Literal

import numpy as np
import onnxruntime

from export import accuracy, parity, quantise, rows, samples, speed
from export.errors import AccuracyRefused, GateRefused, VariantRefused
from export.job import AUTO, Job
from export.onnx_model import Outputs
from export.publish import Dropped
from export.runners import Runner, onnx_runner
from export.samples import Samples
from serving.passport import AccuracyProof, ErrorProof, RowsProof, SpeedProof, VariantProof
from serving.types import Array
from training.checkpoint import Checkpoint
from training.data.dataset import Dataset

CALIBRATION: Final = 512  # training samples
CALIBRATION_BATCH: Final = 64
SEED: Final = 0


@dataclass(frozen=True, slots=True)
class Baseline:
    """The fp32 model that a variant is made of, and what was measured of it."""

    checkpoint: Checkpoint
    dataset: Dataset
    graph: bytes
    measured: AccuracyProof | ErrorProof
    max_batch_size: int


@dataclass(frozen=True, slots=True)
class Variant:
    """A model that passed its gates. `max_batch_size` is 1 where rows depend on each other."""

    precision: Literal["int8"]
    graph: bytes
    max_batch_size: int
    measured: AccuracyProof | ErrorProof
    rows: RowsProof
    proof: VariantProof


def check(job: Job, checkpoint: Checkpoint) -> None:
    """Raises VariantRefused, before any work, for a precision asked for that cannot be had."""
    for precision in _wanted(job):
        if (missing := _missing(precision, job, checkpoint)) and AUTO not in job.variants:
            raise VariantRefused(f"{precision} cannot be had: {missing}")


def make(job: Job, base: Baseline) -> Iterator[Variant | Dropped]:
    """What becomes of each precision but fp32. With `auto` it is dropped for what GateRefused is
    raised for without."""
    for precision in _wanted(job):
        if missing := _missing(precision, job, base.checkpoint):
            yield Dropped(precision, missing)
            continue
        try:
            made = _int8(base, job)
        except GateRefused as refused:
            if AUTO not in job.variants:
                raise
            yield Dropped(precision, str(refused))
            continue
        slow = speed.slower(made.proof.speed) if AUTO in job.variants else ""
        yield Dropped(precision, f"not faster: {slow}") if slow else made


def _wanted(job: Job) -> tuple[str, ...]:
    every = ("int8", "fp16")
    return every if AUTO in job.variants else tuple(p for p in every if p in job.variants)


def _missing(precision: str, job: Job, checkpoint: Checkpoint) -> str:
    """What there is not; empty if all is there."""
    if precision == "fp16":
        return "; ".join(_missing_for_fp16())
    if job.part:
        return "there are no training samples in terms of a part to take the ranges from"
    if checkpoint.task == "language":
        return "language models are exported in fp32 only"
    return ""


def _missing_for_fp16() -> Iterator[str]:
    """It pays on a GPU alone, where it has to be measured and then served."""
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        yield (
            f"ONNX Runtime {onnxruntime.__version__} here has no CUDAExecutionProvider "
            "(pip install 'penstock[gpu]')"
        )
    if not Path("/dev/nvidiactl").exists():
        yield "no NVIDIA GPU is seen here"
    yield "graphs are not converted to fp16, and --tensorrt fp16 builds an engine that is"


def _int8(base: Baseline, job: Job) -> Variant:
    graph, method, count = _quantised(base)
    tried = _rows(graph, base, job)
    largest = base.max_batch_size if tried.independent else 1
    candidate = onnx_runner(graph) if largest > 1 else one_by_one(onnx_runner(graph))
    value = accuracy.measure(candidate, base.dataset, base.checkpoint)
    loss = loss_of(value, base.measured)
    if not loss <= job.max_loss:
        raise AccuracyRefused(_refusal(value, loss, base.measured, job.max_loss))
    return Variant(
        precision="int8",
        graph=graph,
        max_batch_size=largest,
        measured=base.measured.model_copy(update={"value": value}),
        rows=tried,
        proof=VariantProof(
            precision="int8",
            method=method,
            calibration_n=count,
            fp32_sha256=sha256(base.graph).hexdigest(),
            fp32_value=base.measured.value,
            loss=loss,
            max_loss=job.max_loss,
            speed=tuple(_speed(graph, base, alone=largest == 1)),
            machine=speed.machine(),
        ),
    )


def _quantised(base: Baseline) -> tuple[bytes, Literal["static", "dynamic"], int]:
    """The graph, the way it was made in, and how many training samples that took."""
    if _is_dynamic(base):
        return quantise.dynamic(base.graph), "dynamic", 0
    batches = calibration_batches(base)
    count = sum(len(batch) for feed in batches for batch in feed.values())
    return quantise.static(base.graph, batches), "static", count


def calibration_batches(base: Baseline) -> list[dict[str, Array]]:
    """Training samples to take ranges from, by the input's name."""
    name = base.checkpoint.signature.inputs[0].name
    drawn = base.dataset.train_x[_calibration(base.dataset)]
    batches = np.array_split(drawn, max(1, len(drawn) // CALIBRATION_BATCH))
    return [{name: batch} for batch in batches]


def _is_dynamic(base: Baseline) -> bool:
    return base.checkpoint.task == "text" or quantise.is_recurrent(base.graph)


def _calibration(dataset: Dataset) -> Array:
    """Places of training samples from all over the set, which may be sorted."""
    random = np.random.default_rng(SEED)
    total = len(dataset.train_x)
    return np.sort(random.choice(total, min(CALIBRATION, total), replace=False))


def _rows(graph: bytes, base: Baseline, job: Job) -> RowsProof:
    rows_there = samples.real(base.dataset.test_x, base.max_batch_size)
    sizes = parity.batch_sizes(base.max_batch_size)
    return rows.check(onnx_runner(graph), rows_there, sizes, job.tolerance)


def one_by_one(runner: Runner) -> Runner:
    """Each row by itself, without the padding that it has among others."""

    def run(raw: Array) -> Outputs:
        given = _samples(raw)
        return parity.stack([runner(given.alone(index)) for index in range(len(raw))])

    return run


def _samples(raw: Array) -> Samples:
    return Samples("real", raw, ("",) * len(raw), padded=raw.dtype == np.int64)


def loss_of(value: float, fp32: AccuracyProof | ErrorProof) -> float:
    """In points of accuracy, or in per cent of the error."""
    if isinstance(fp32, AccuracyProof):
        return round(100 * (fp32.value - value), 6)
    return round(100 * (value / fp32.value - 1), 6) if fp32.value else 100 * value


def _refusal(value: float, loss: float, fp32: AccuracyProof | ErrorProof, max_loss: float) -> str:
    if isinstance(fp32, AccuracyProof):
        return (
            f"int8 is right on {value:.2%} of {fp32.n} test samples, fp32 on {fp32.value:.2%}: "
            f"{loss:.2f} points less, and at most {max_loss:g} may be lost"
        )
    return (
        f"int8 has an error of {value:.6g} over {fp32.n} test samples, fp32 {fp32.value:.6g}: "
        f"{loss:.2f} % more, and at most {max_loss:g} % may be added"
    )


def _speed(graph: bytes, base: Baseline, alone: bool) -> Iterator[SpeedProof]:
    """At one row and at the largest batch, which a variant without batches takes row by row."""
    fp32, variant = (onnx_runner(each, threads=1) for each in (base.graph, graph))
    if alone:
        variant = one_by_one(variant)
    real = samples.real(base.dataset.test_x, base.max_batch_size)
    for size in sorted({1, base.max_batch_size}):
        batch = real.alone(0) if size == 1 else real.batch(slice(0, size))
        yield speed.compare(_on(fp32, batch), _on(variant, batch), size)


def _on(runner: Runner, batch: Array) -> Callable[[], object]:
    return lambda: runner(batch)
