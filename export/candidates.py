"""What a variant is before it is measured: the graph in another precision, and how it was made."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

import numpy as np

from export import half, parity, place, quantise, rows, samples
from export.job import HALF_TOLERANCE, Job
from export.onnx_model import OnnxModel, Outputs
from export.place import Place
from export.runners import Runner, feed, onnx_runner
from export.samples import Samples
from serving.passport import Measured, ParityProof, RowsProof
from serving.types import Array
from training.checkpoint import Checkpoint
from training.data.dataset import Dataset

CALIBRATION: Final = 512  # training samples
CALIBRATION_BATCH: Final = 64
SEED: Final = 0

Precision: TypeAlias = Literal["int8", "fp16"]
Method: TypeAlias = Literal["static", "dynamic", "mixed"]


@dataclass(frozen=True, slots=True)
class Baseline:
    """The fp32 model that a variant is made of, and what was measured of it."""

    checkpoint: Checkpoint
    dataset: Dataset
    graph: bytes
    measured: Measured
    max_batch_size: int


@dataclass(frozen=True, slots=True)
class Candidate:
    """A graph that answers about as fp32 does, by `rows` or `parity`, to be measured in its place.

    `max_batch_size` is 1 where rows depend on each other; `calibration_n` counts training samples
    that ranges were taken from."""

    precision: Precision
    graph: bytes
    method: Method
    calibration_n: int
    max_batch_size: int
    place: Place
    rows: RowsProof | None = None
    parity: ParityProof | None = None

    def runner(self, threads: int = 0) -> Runner:
        """Takes batches of any size; row by row where rows depend on each other."""
        runner = onnx_runner(self.graph, threads, self.place.provider)
        return runner if self.max_batch_size > 1 else one_by_one(runner)


def int8(base: Baseline, job: Job) -> Candidate:
    """GateRefused where it cannot be made, or does not answer by numbers."""
    graph, method, count = _quantised(base)
    sizes = parity.batch_sizes(base.max_batch_size)
    tried = rows.check(onnx_runner(graph), _real(base), sizes, job.tolerance)
    most = base.max_batch_size if tried.independent else 1
    return Candidate("int8", graph, method, count, most, place.cpu(), rows=tried)


def fp16(base: Baseline, job: Job) -> Candidate:
    """GateRefused where it cannot be made, a value leaves the range, or an answer, in a batch or
    alone, is further from fp32 than half precision explains."""
    made, real = half.convert(base.graph), _real(base)
    inputs = OnnxModel(base.graph).inputs
    alone = (feed(inputs, real.alone(row)) for row in range(len(real.names)))
    half.check_range(base.graph, made.tensors, alone)
    where = place.gpu_or_cpu(made.graph)
    compared = parity.check(
        onnx_runner(base.graph),
        onnx_runner(made.graph, provider=where.provider),
        [real],
        parity.batch_sizes(base.max_batch_size),
        HALF_TOLERANCE,
        parity.Names("fp16", "fp32"),
    )
    return Candidate("fp16", made.graph, "mixed", 0, base.max_batch_size, where, parity=compared)


MAKERS: Final[dict[Precision, Callable[[Baseline, Job], Candidate]]] = {"int8": int8, "fp16": fp16}


def calibration_batches(base: Baseline) -> list[dict[str, Array]]:
    """Training samples to take ranges from, by the input's name."""
    name = base.checkpoint.signature.inputs[0].name
    drawn = base.dataset.train_x[_calibration(base.dataset)]
    batches = np.array_split(drawn, max(1, len(drawn) // CALIBRATION_BATCH))
    return [{name: batch} for batch in batches]


def one_by_one(runner: Runner) -> Runner:
    """Each row by itself, without the padding that it has among others."""

    def run(raw: Array) -> Outputs:
        given = Samples("real", raw, ("",) * len(raw), padded=raw.dtype == np.int64)
        return parity.stack([runner(given.alone(index)) for index in range(len(raw))])

    return run


def _quantised(base: Baseline) -> tuple[bytes, Method, int]:
    """The graph, the way it was made in, and how many training samples that took."""
    if base.checkpoint.task == "text" or quantise.is_recurrent(base.graph):
        return quantise.dynamic(base.graph), "dynamic", 0
    batches = calibration_batches(base)
    count = sum(len(batch) for feed in batches for batch in feed.values())
    return quantise.static(base.graph, batches), "static", count


def _calibration(dataset: Dataset) -> Array:
    """Places of training samples from all over the set, which may be sorted."""
    random = np.random.default_rng(SEED)
    total = len(dataset.train_x)
    return np.sort(random.choice(total, min(CALIBRATION, total), replace=False))


def _real(base: Baseline) -> Samples:
    return samples.real(base.dataset.test_x, base.max_batch_size)
