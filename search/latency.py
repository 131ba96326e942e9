"""How long a network takes to answer as it is served: its exported graph in ONNX Runtime."""

import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from torch import nn

from export.job import OPSET
from export.runners import onnx_runner
from export.to_onnx import to_onnx
from serving.types import Array
from training import checkpoint as checkpoints
from training.checkpoint import Checkpoint

RUNS, WARM_UP = 300, 30


def measure(checkpoint: Checkpoint, model: nn.Module, samples: Array) -> float:
    """Microseconds for the first of `samples`, alone in its batch: the median of RUNS."""
    with TemporaryDirectory() as folder:
        run = onnx_runner(to_onnx(checkpoints.save(Path(folder, "it"), checkpoint, model), OPSET))
    took = []
    for _ in range(WARM_UP + RUNS):
        started = time.perf_counter_ns()
        run(samples[:1])
        took.append(time.perf_counter_ns() - started)
    return median(took[WARM_UP:]) / 1000
