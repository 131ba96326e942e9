"""What is held out of the training data, and which epoch is best by it.

Whatever is chosen, an epoch or an architecture, is chosen by these samples: the test set would
flatter a model that was picked by it.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from training.curve import Epoch
from training.data.dataset import Dataset
from training.errors import ConfigError

SHARE = 0.1  # of the training samples


def held_out(dataset: Dataset) -> Dataset:
    """The training samples alone, a tenth of them in the place of the test set.

    The same tenth for every seed, at random; where samples overlap in time, the last one, and those
    before it that share a part with it are left out. Raises ConfigError where there are too few
    samples."""
    samples, overlap = len(dataset.train_x), dataset.overlap
    order = np.arange(samples) if overlap else np.random.default_rng(0).permutation(samples)
    kept = samples - round(SHARE * samples)
    if kept == samples:
        raise ConfigError(f"of {samples} training samples none can be held out")
    if kept <= overlap:
        raise ConfigError(
            f"of {samples} training samples none is left that shares nothing with the tenth that "
            "is held out"
        )
    train, held = np.sort(order[: kept - overlap]), np.sort(order[kept:])
    return replace(
        dataset,
        train_x=dataset.train_x[train],
        train_y=dataset.train_y[train],
        test_x=dataset.train_x[held],
        test_y=dataset.train_y[held],
        probes={},
    )


def best(history: Sequence[Epoch]) -> Epoch:
    """The first of those that are best on what was held out: by the accuracy where there is one,
    then by the loss."""
    return max(history, key=_score)


def is_over(history: Sequence[Epoch], patience: int | None) -> bool:
    """Whether `patience` epochs have gone by without a better one."""
    if patience is None or not history:
        return False
    return history[-1].epoch - best(history).epoch >= patience


def _score(row: Epoch) -> tuple[float, float]:
    assert row.validation_loss is not None
    return row.validation_accuracy or 0.0, -row.validation_loss
