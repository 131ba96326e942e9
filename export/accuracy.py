"""The accuracy gate: on the data that the checkpoint was measured on, as many right answers."""

import numpy as np

from export.errors import AccuracyRefused, DataRefused
from export.runners import Runner
from serving.passport import AccuracyProof
from training.checkpoint import Checkpoint
from training.data.dataset import Dataset

BATCH = 256


def check_data(dataset: Dataset, checkpoint: Checkpoint) -> None:
    """Raises DataRefused unless `dataset` is the one that the checkpoint was measured on."""
    if (digest := dataset.sha256) != checkpoint.dataset_sha256:
        raise DataRefused(
            f"the data set {dataset.name} has the SHA-256 {digest}, but the checkpoint was "
            f"trained and tested on {checkpoint.dataset_sha256}"
        )
    if dataset.labels != checkpoint.labels:
        raise DataRefused(
            f"the labels of the data set {dataset.name} are {', '.join(dataset.labels)}, "
            f"but those of the checkpoint are {', '.join(checkpoint.labels)}"
        )


def check(candidate: Runner, dataset: Dataset, checkpoint: Checkpoint) -> AccuracyProof:
    """Counts the right answers over the whole test set; AccuracyRefused if they are fewer."""
    total = len(dataset.test_y)
    stated, stated_n = (checkpoint.metrics.get(name) for name in ("test_accuracy", "test_n"))
    if stated is None or stated_n is None:
        raise AccuracyRefused("the checkpoint states no test accuracy to hold the export against")
    if stated_n != total:
        raise AccuracyRefused(
            f"the checkpoint states its accuracy over {stated_n} samples, but the test set of "
            f"{dataset.name} has {total}"
        )
    right, expected = count_right(candidate, dataset), round(stated * total)
    if right < expected:
        raise AccuracyRefused(
            f"ONNX Runtime is right on {right} of {total} test samples ({right / total:.2%}), "
            f"{expected - right} fewer than the checkpoint's {expected} ({stated:.2%})"
        )
    return AccuracyProof(value=right / total, n=total, checkpoint=stated)


def count_right(candidate: Runner, dataset: Dataset) -> int:
    right = 0
    for start in range(0, len(dataset.test_y), BATCH):
        rows = slice(start, start + BATCH)
        best = candidate(dataset.test_x[rows])["logits"].argmax(axis=-1)
        right += int(np.count_nonzero(best == dataset.test_y[rows]))
    return right
