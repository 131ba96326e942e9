"""Two classes of CIFAR-10, automobile and truck, enlarged to 64x64 pixels."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from training.data import cifar10
from training.data.dataset import Array, Dataset
from training.spec import Normalisation, TensorField

LABELS = ("automobile", "truck")
# Of the training pixels of the two, after scaling to 0..1.
NORMALISATION = Normalisation(
    scale=1 / 255, mean=(0.4849, 0.4699, 0.4626), std=(0.2684, 0.2679, 0.2784)
)
TIMES = 2


def load(data_dir: Path | None = None) -> Dataset:
    return pair(cifar10.load(data_dir))


def pair(whole: Dataset) -> Dataset:
    train, test = _chosen(whole.train_y), _chosen(whole.test_y)
    return replace(
        whole,
        name="cifar10-pair",
        train_x=enlarge(whole.train_x[train]),
        train_y=_binary(whole.train_y[train]),
        test_x=enlarge(whole.test_x[test]),
        test_y=_binary(whole.test_y[test]),
        labels=LABELS,
        field=TensorField("image", "UINT8", (3, 32 * TIMES, 32 * TIMES)),
        normalisation=NORMALISATION,
    )


def enlarge(images: Array) -> Array:
    """Each pixel as a square of TIMES x TIMES."""
    return np.repeat(np.repeat(images, TIMES, axis=2), TIMES, axis=3)


def _chosen(y: Array) -> Array:
    chosen: Array = np.isin(y, [cifar10.LABELS.index(label) for label in LABELS])
    return chosen


def _binary(y: Array) -> Array:
    return np.asarray(y == cifar10.LABELS.index(LABELS[1]), dtype=np.int64)
