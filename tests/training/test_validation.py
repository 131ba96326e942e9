"""What is held out of the training data, and which epoch is best by it."""

from dataclasses import replace

import numpy as np
import pytest

from tests.training.samples import slice_of
from tests.training.tiny import tiny
from training import validation
from training.curve import Epoch
from training.data.dataset import Dataset
from training.errors import ConfigError
from training.tasks import Classification, Forecast, Task


def history(*scores: tuple[float | None, float]) -> list[Epoch]:
    """Epochs of these accuracies and losses."""
    return [
        Epoch(number, 0.1, 1.0, 1.0, 0.5, 1.0, loss, accuracy)
        for number, (accuracy, loss) in enumerate(scores, 1)
    ]


def rows(x: np.ndarray) -> list[bytes]:
    return [row.tobytes() for row in x]


@pytest.mark.parametrize("name", ["digits", "etth1"])
def test_a_tenth_is_held_out_and_never_trained_on(name: str) -> None:
    dataset = slice_of(tiny(name))
    task: Task = Forecast(dataset.normalisation) if name == "etth1" else Classification()
    part = validation.held_out(dataset, task)
    assert (len(part.train_x), len(part.test_x)) == (270, 30)
    assert sorted(rows(part.train_x) + rows(part.test_x)) == sorted(rows(dataset.train_x))
    again = validation.held_out(dataset, task)
    np.testing.assert_array_equal(part.test_x, again.test_x)


def test_samples_keep_their_labels(digits: Dataset) -> None:
    part = validation.held_out(digits, Classification())
    labels = dict(zip(rows(digits.train_x), digits.train_y, strict=True))
    assert [labels[row] for row in rows(part.test_x)] == list(part.test_y)


def test_of_samples_in_time_the_last_ones_are_held_out() -> None:
    dataset = slice_of(tiny("etth1"))
    part = validation.held_out(dataset, Forecast(dataset.normalisation))
    np.testing.assert_array_equal(part.test_x, dataset.train_x[270:])


def test_too_few_samples_to_hold_any_out_are_refused(digits: Dataset) -> None:
    with pytest.raises(ConfigError, match="of 4 training samples"):
        validation.held_out(slice_of(digits, 4), Classification())


def test_the_best_epoch_is_the_first_of_the_most_accurate_then_that_of_the_lowest_loss() -> None:
    assert validation.best(history((0.9, 0.3), (0.95, 0.4), (0.95, 0.2), (0.95, 0.2))).epoch == 3
    assert validation.best(history((None, 0.3), (None, 0.1), (None, 0.2))).epoch == 2


def test_training_is_over_when_patience_is() -> None:
    epochs = history((0.9, 0.3), (0.8, 0.2), (0.8, 0.2))
    assert not validation.is_over(epochs, 3)
    assert validation.is_over(epochs, 2)
    assert not validation.is_over([replace(epochs[0])], 1)
    assert not validation.is_over([], 1)
    assert not validation.is_over(epochs, None)
