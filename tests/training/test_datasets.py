"""What every data set in the catalog promises."""

from pathlib import Path

import numpy as np
import pytest

from tests.training.conftest import DATA_DIR
from training.catalog import DATASETS, load_dataset
from training.data.dataset import Dataset
from training.data.digits import stratified_test_mask
from training.errors import ConfigError

NUMPY_TYPES = {"UINT8": np.uint8, "FP32": np.float32}


@pytest.fixture(params=sorted(DATASETS))
def dataset(request: pytest.FixtureRequest) -> Dataset:
    name: str = request.param
    if name == "mnist":
        mnist: Dataset = request.getfixturevalue("mnist")
        return mnist
    return load_dataset(name, DATA_DIR)


def test_inputs_are_what_the_field_says(dataset: Dataset) -> None:
    for x in (dataset.train_x, dataset.test_x):
        assert x.dtype == NUMPY_TYPES[dataset.field.datatype]
        assert x.shape[1:] == dataset.field.shape


def test_every_label_occurs_in_training_and_test(dataset: Dataset) -> None:
    for x, y in ((dataset.train_x, dataset.train_y), (dataset.test_x, dataset.test_y)):
        assert len(x) == len(y)
        assert np.unique(y).tolist() == list(range(len(dataset.labels)))


def test_normalised_training_inputs_have_mean_0_and_deviation_1(dataset: Dataset) -> None:
    by = dataset.normalisation
    some = dataset.train_x.reshape(-1)[::11]  # of every sample, and in the end of every place
    x = (some * by.scale - np.array(by.mean)) / np.array(by.std)
    assert x.mean() == pytest.approx(0, abs=0.01)
    assert x.std() == pytest.approx(1, abs=0.01)


def test_the_hash_tells_data_sets_apart_and_stays(digits: Dataset) -> None:
    again = load_dataset("digits")
    again.test_y[0] += 1
    assert load_dataset("digits").sha256 == digits.sha256 != again.sha256


def test_digits_are_split_alike_in_every_class() -> None:
    mask = stratified_test_mask(np.repeat(np.arange(3), 10))
    assert np.flatnonzero(mask).tolist() == [4, 9, 14, 19, 24, 29]


def test_digits_need_no_folder(tmp_path: Path) -> None:
    assert len(load_dataset("digits", tmp_path / "nowhere").train_x) == 1442


def test_an_unknown_data_set_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"'mist'; there are: digits, mnist"):
        load_dataset("mist")
