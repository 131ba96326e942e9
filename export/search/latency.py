"""How long a network takes to answer as it is served: its exported graph in ONNX Runtime."""

import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from torch import nn

from export.job import OPSET
from export.runners import Runner, onnx_runner
from export.to_onnx import to_onnx
from serving.types import Array
from training import checkpoint as checkpoints
from training.checkpoint import Checkpoint

BLOCKS, RUNS = 20, 100


def measure(checkpoint: Checkpoint, model: nn.Module, samples: Array) -> float:
    """Microseconds for the first of `samples`, alone in its batch: the median of RUNS, of the block
    in which others left the processor alone the most."""
    with TemporaryDirectory() as folder:
        run = onnx_runner(to_onnx(checkpoints.save(Path(folder, "it"), checkpoint, model), OPSET))
    return min(median(_run(run, samples[:1]) for _ in range(RUNS)) for _ in range(BLOCKS)) / 1000


def _run(run: Runner, sample: Array) -> int:
    """How many nanoseconds it took."""
    started = time.perf_counter_ns()
    run(sample)
    return time.perf_counter_ns() - started
