"""The accuracy gate: on the data that the checkpoint was measured on, as many right answers, or an
error no larger."""

from collections.abc import Iterator

import numpy as np
import torch

from export.errors import AccuracyRefused, DataRefused
from export.runners import Runner
from serving.passport import AccuracyProof, ErrorProof
from serving.types import Array
from training import frechet, tokens
from training.checkpoint import Checkpoint
from training.data.dataset import Dataset

BATCH = 64  # what attention computes of more texts is larger than caches
SCORED_BY_ERROR = ("reconstruction", "decoding", "forecast", "generation")
ROUNDING = 1e-5  # the share by which sums of another order may differ


def check_data(dataset: Dataset, checkpoint: Checkpoint) -> None:
    """Raises DataRefused unless `dataset` is the one that the checkpoint was measured on."""
    if (digest := dataset.sha256) != checkpoint.dataset_sha256:
        raise DataRefused(
            f"the data set {dataset.name} has the SHA-256 {digest}, but the checkpoint was "
            f"trained and tested on {checkpoint.dataset_sha256}"
        )
    if dataset.tokenizer != checkpoint.tokenizer:
        raise DataRefused(
            f"the tokeniser of the data set {dataset.name} is not that of the checkpoint, which "
            "would make other numbers of the same texts"
        )
    # Names, which no figure would show to be wrong: what clients read, and send columns by.
    for what in ("labels", "columns"):
        theirs, stated = getattr(dataset, what), getattr(checkpoint, what)
        if theirs != stated:
            raise DataRefused(
                f"the {what} of the data set {dataset.name} are {', '.join(theirs)}, "
                f"but those of the checkpoint are {', '.join(stated)}"
            )


def check(
    candidate: Runner, dataset: Dataset, checkpoint: Checkpoint
) -> AccuracyProof | ErrorProof:
    """Measures the whole test set; AccuracyRefused if it comes out worse than was stated."""
    total = len(dataset.test_y)
    if checkpoint.task in SCORED_BY_ERROR:
        return _check_error(candidate, dataset, checkpoint)
    stated = _stated(checkpoint, "test_accuracy", dataset)
    right, expected = count_right(candidate, dataset), round(stated * total)
    if right < expected:
        raise AccuracyRefused(
            f"ONNX Runtime is right on {right} of {total} test samples ({right / total:.2%}), "
            f"{expected - right} fewer than the checkpoint's {expected} ({stated:.2%})"
        )
    return AccuracyProof(value=right / total, n=total, checkpoint=stated)


def _check_error(candidate: Runner, dataset: Dataset, checkpoint: Checkpoint) -> ErrorProof:
    generated = checkpoint.task == "generation"
    stated = _stated(checkpoint, "test_frechet" if generated else "test_mse", dataset)
    value = measure(candidate, dataset, checkpoint)
    if not value <= stated * (1 + ROUNDING):
        what = "Fréchet distance" if generated else "mean squared error"
        raise AccuracyRefused(
            f"ONNX Runtime has a {what} of {value:.6g} over the test samples, more than the "
            f"checkpoint's {stated:.6g}"
        )
    return ErrorProof(value=value, n=len(dataset.test_y), checkpoint=stated)


def _stated(checkpoint: Checkpoint, name: str, dataset: Dataset) -> float:
    stated, stated_n = (checkpoint.metrics.get(metric) for metric in (name, "test_n"))
    if stated is None or stated_n is None:
        what = name.replace("_", " ")
        raise AccuracyRefused(f"the checkpoint states no {what} to hold the export against")
    if stated_n != len(dataset.test_y):
        raise AccuracyRefused(
            f"the checkpoint states its accuracy over {stated_n} samples, but the test set of "
            f"{dataset.name} has {len(dataset.test_y)}"
        )
    return stated


def measure(candidate: Runner, dataset: Dataset, checkpoint: Checkpoint) -> float:
    """Over the whole test set, the share of right answers, or the error of the task."""
    if checkpoint.task == "generation":
        return pixel_distance(candidate, dataset)
    if checkpoint.task in SCORED_BY_ERROR:
        return squared_error(candidate, dataset, checkpoint)
    return count_right(candidate, dataset) / len(dataset.test_y)


def count_right(candidate: Runner, dataset: Dataset) -> int:
    right = 0
    for x, y in _batches(dataset):
        best = candidate(x)["probabilities"].argmax(axis=-1)
        right += int(np.count_nonzero(best == y))
    return right


def squared_error(candidate: Runner, dataset: Dataset, checkpoint: Checkpoint) -> float:
    """Over the whole test set, in the terms of training."""
    total = 0.0
    for x, wanted in _batches(dataset):
        answer = candidate(x)
        found = answer[checkpoint.signature.outputs[-1].name]
        if checkpoint.task == "forecast":
            off = (found - wanted) / np.array(checkpoint.normalisation.std)
        else:
            off = found - wanted / np.float64(255)
        total += float(np.square(off, dtype=np.float64).mean()) * len(wanted)
    return total / len(dataset.test_y)


def pixel_distance(candidate: Runner, dataset: Dataset) -> float:
    """Fréchet's, of the pictures made of the test latents to the test pictures."""
    made = [candidate(x)["image"] for x, _ in _batches(dataset)]
    pixels = np.concatenate(made).reshape(len(dataset.test_y), -1)
    return frechet.distance(pixels, dataset.test_y.reshape(pixels.shape) / 255)


def _batches(dataset: Dataset) -> Iterator[tuple[Array, Array]]:
    """All test samples with their targets, batch by batch.

    Texts come in the order of their lengths and without the padding that no row of a batch needs,
    so that a short one does not take the time of the longest."""
    order, x = np.arange(len(dataset.test_y)), dataset.test_x
    is_text = dataset.field.shape == (-1,)
    if is_text:
        lengths = tokens.lengths(torch.from_numpy(x)).clamp(min=1).numpy()
        order = np.argsort(lengths, kind="stable")
    for start in range(0, len(order), BATCH):
        rows = order[start : start + BATCH]
        yield (x[rows, : lengths[rows[-1]]] if is_text else x[rows]), dataset.test_y[rows]
