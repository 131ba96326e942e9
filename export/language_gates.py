"""The gates of a language model: the graph, with its cache, must say what the network says without.

Texts go through the graph as a server sends them: in pieces of different lengths, a cache of what
came before beside each, and on beyond the context.
"""

from collections.abc import Iterator
from itertools import cycle

import numpy as np

from export.errors import AccuracyRefused
from export.language import IDS, LOGITS, POSITIONS
from export.onnx_model import OnnxModel, Outputs
from export.runners import Runner
from export.samples import SEED, Samples
from serving.passport import ErrorProof
from serving.types import Array
from training.checkpoint import Checkpoint
from training.data.dataset import Dataset

# How many tokens the steps take, in turn; never more than a context.
STEPS = (32, 1, 1, 7, 64, 1)
BATCH = 64
ROUNDING = 1e-5  # the share by which sums of another order may differ


def cached_runner(graph: bytes) -> Runner:
    """Numbers of tokens (B, T) to the logits (B, T, V) at all of them, step by step. GateRefused
    where ONNX Runtime cannot load the model or run a step."""
    model = OnnxModel(graph)
    rings = [spec for spec in model.signature.inputs if spec.name not in (IDS, POSITIONS)]

    def run(ids: Array) -> Outputs:
        past = {ring.name: np.zeros((len(ids), *ring.dims[1:]), np.float32) for ring in rings}
        logits = []
        for start, stop in _pieces(ids.shape[1], rings[0].dims[2]):
            positions = np.full(len(ids), start)
            answer = model({IDS: ids[:, start:stop], POSITIONS: positions} | past)
            for name, ring in past.items():
                new = answer[name.replace("past", "new", 1)]
                ring[:, :, np.arange(start, stop) % ring.shape[2]] = new
            logits.append(answer[LOGITS])
        return {LOGITS: np.concatenate(logits, axis=1)}

    return run


def _pieces(length: int, context: int) -> Iterator[tuple[int, int]]:
    start = 0
    for size in cycle(STEPS):
        if start == length:
            return
        stop = min(start + min(size, context), length)
        yield start, stop
        start = stop


def samples(dataset: Dataset, checkpoint: Checkpoint, count: int) -> tuple[Samples, Samples]:
    """Windows of the held-out text, and texts of no sense that go on beyond the context."""
    index = np.arange(count) % len(dataset.test_x)
    names = tuple(f"test sample {i}" for i in index)
    vocabulary, context = (
        int(checkpoint.architecture_config[name]) for name in ("vocabulary", "context")
    )
    random = np.random.default_rng(SEED)
    noise = random.integers(0, vocabulary, (count, context + context // 2))
    noise[0] = vocabulary - 1
    return (
        Samples("real", dataset.test_x[index], names),
        Samples("extreme", noise, tuple(f"random text {i}" for i in range(count))),
    )


def check_nats(candidate: Runner, dataset: Dataset, checkpoint: Checkpoint) -> ErrorProof:
    """Nats per token over the whole held-out text; AccuracyRefused if they are more than stated."""
    stated = checkpoint.metrics.get("test_nats")
    if stated is None:
        raise AccuracyRefused("the checkpoint states no test nats to hold the export against")
    total = sum(
        _nats(candidate(dataset.test_x[rows])[LOGITS], dataset.test_y[rows])
        for rows in _batches(len(dataset.test_y))
    )
    value = total / dataset.test_y.size
    if not value <= stated * (1 + ROUNDING):
        raise AccuracyRefused(
            f"ONNX Runtime needs {value:.6g} nats per token of the held-out text, more than the "
            f"checkpoint's {stated:.6g}"
        )
    return ErrorProof(value=value, n=dataset.test_y.size, checkpoint=stated)


def _batches(count: int) -> Iterator[slice]:
    for start in range(0, count, BATCH):
        yield slice(start, start + BATCH)


def _nats(logits: Array, targets: Array) -> float:
    """Summed over the targets."""
    wide = logits.astype(np.float64)
    wide -= wide.max(axis=-1, keepdims=True)
    chosen = np.take_along_axis(wide, targets[..., None], axis=-1)[..., 0]
    return float((np.log(np.exp(wide).sum(axis=-1)) - chosen).sum())
