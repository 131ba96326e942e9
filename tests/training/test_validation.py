"""What is held out of the training data, and which epoch is best by it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.training.samples import slice_of
from tests.training.tiny import tiny
from training import validation
from training.catalog import load_dataset
from training.curve import Epoch
from training.data import ett, shakespeare
from training.data.dataset import Dataset
from training.errors import ConfigError


def history(*scores: tuple[float | None, float]) -> list[Epoch]:
    """Epochs of these accuracies and losses."""
    return [
        Epoch(number, 0.1, 1.0, 1.0, 0.5, 1.0, loss, accuracy)
        for number, (accuracy, loss) in enumerate(scores, 1)
    ]


def rows(x: np.ndarray) -> list[bytes]:
    return [row.tobytes() for row in x]


def test_a_tenth_is_held_out_and_never_trained_on() -> None:
    dataset = slice_of(tiny("digits"))
    part = validation.held_out(dataset)
    assert (len(part.train_x), len(part.test_x)) == (270, 30)
    assert sorted(rows(part.train_x) + rows(part.test_x)) == sorted(rows(dataset.train_x))
    again = validation.held_out(dataset)
    np.testing.assert_array_equal(part.test_x, again.test_x)


def test_samples_keep_their_labels(digits: Dataset) -> None:
    part = validation.held_out(digits)
    labels = dict(zip(rows(digits.train_x), digits.train_y, strict=True))
    assert [labels[row] for row in rows(part.test_x)] == list(part.test_y)


def test_of_samples_in_time_the_last_ones_are_held_out() -> None:
    dataset = replace(slice_of(tiny("etth1")), overlap=30)
    part = validation.held_out(dataset)
    np.testing.assert_array_equal(part.test_x, dataset.train_x[270:])
    np.testing.assert_array_equal(part.train_x, dataset.train_x[:240])


HOURS = ett.windows(np.arange(3000.0, dtype=np.float32)[:, None])
CHARACTERS = shakespeare.windows(np.arange(20_000), shakespeare.STRIDE)


@pytest.mark.parametrize(
    ("windows", "overlap"), [(HOURS, ett.OVERLAP), (CHARACTERS, shakespeare.OVERLAP)]
)
def test_nothing_that_is_held_out_is_a_part_of_what_is_trained_on(
    windows: tuple[np.ndarray, np.ndarray], overlap: int
) -> None:
    """Of steps that are numbered, and no more samples are left out than has to be."""
    x, y = windows
    dataset = replace(tiny("etth1"), train_x=x, train_y=y, overlap=overlap)
    part = validation.held_out(dataset)
    met = {*part.train_x.flat, *part.train_y.flat}
    assert met.isdisjoint({*part.test_x.flat, *part.test_y.flat})
    assert x[len(part.train_x)].max() < x[-len(part.test_x)].min() <= y[len(part.train_x)].max()


@pytest.mark.parametrize(
    ("name", "overlap"),
    [("etth1", ett.OVERLAP), ("tiny-shakespeare", shakespeare.OVERLAP), ("digits", 0)],
)
def test_a_data_set_says_how_far_its_samples_overlap(
    name: str, overlap: int, data_dir: Path
) -> None:
    assert load_dataset(name, data_dir).overlap == overlap


def test_too_few_windows_to_have_any_apart_are_refused() -> None:
    dataset = replace(slice_of(tiny("etth1")), overlap=270)
    with pytest.raises(ConfigError, match="of 300 training samples none is left that shares"):
        validation.held_out(dataset)


def test_too_few_samples_to_hold_any_out_are_refused(digits: Dataset) -> None:
    with pytest.raises(ConfigError, match="of 4 training samples"):
        validation.held_out(slice_of(digits, 4))


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
