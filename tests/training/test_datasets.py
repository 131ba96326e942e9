"""What every data set in the catalog promises."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest

from tests.training.conftest import DATA_DIR
from tests.training.tiny import BUNDLED, CONTRACTS, tiny
from training.catalog import DATASETS, load_dataset
from training.data.dataset import Dataset
from training.data.digits import stratified_test_mask
from training.errors import ConfigError

NUMPY_TYPES = {"UINT8": np.uint8, "FP32": np.float32}


# Decoding CIFAR-10 and cutting texts take long; `test_cifar10`, `test_texts`, `test_imdb`,
# `test_translation` and `test_shakespeare` have their parts.
SLOW = {"ag-news", "cifar10", "cifar10-pair", "imdb", "multi30k", "sst2", "tiny-shakespeare"}
QUICK = sorted(DATASETS.keys() - SLOW)


@pytest.fixture(params=QUICK)
def dataset(request: pytest.FixtureRequest) -> Dataset:
    name: str = request.param
    if name not in BUNDLED:
        request.getfixturevalue("data_dir")
    return whole(name)


@cache
def whole(name: str) -> Dataset:
    return load_dataset(name, DATA_DIR)


def test_inputs_are_what_the_field_says(dataset: Dataset) -> None:
    for x in (dataset.train_x, dataset.test_x):
        assert x.dtype == NUMPY_TYPES[dataset.field.datatype]
        assert x.shape[1:] == dataset.field.shape


def test_every_label_occurs_in_training_and_test(dataset: Dataset) -> None:
    for x, y in ((dataset.train_x, dataset.train_y), (dataset.test_x, dataset.test_y)):
        assert len(x) == len(y)
        if dataset.labels:
            assert np.unique(y).tolist() == list(range(len(dataset.labels)))


def test_normalised_training_inputs_have_mean_0_and_deviation_1(dataset: Dataset) -> None:
    by = dataset.normalisation
    some = np.moveaxis(dataset.train_x[:: 1 + len(dataset.train_x) // 3000], by.axis, -1)
    x = some.reshape(-1, some.shape[-1]) * by.scale
    shape = (len(by.mean), -1) if len(by.mean) > 1 else (1, -1)
    columns = x.T.reshape(shape)  # one row for each mean
    assert columns.mean(axis=1) == pytest.approx(by.mean, abs=0.02 * np.max(by.std))
    assert columns.std(axis=1) == pytest.approx(by.std, rel=0.02)


@pytest.mark.parametrize("name", sorted(CONTRACTS.keys() & set(QUICK)))
def test_the_tiny_stand_in_for_a_data_set_keeps_its_contract(name: str, data_dir: Path) -> None:
    real, stand_in = whole(name), tiny(name)
    assert stand_in.field == real.field
    assert stand_in.labels == real.labels
    assert stand_in.columns == real.columns
    assert stand_in.train_y.shape[1:] == real.train_y.shape[1:]
    assert stand_in.train_y.dtype == real.train_y.dtype
    assert stand_in.normalisation.axis == real.normalisation.axis
    assert len(stand_in.normalisation.mean) == len(real.normalisation.mean)


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
    with pytest.raises(ConfigError, match=r"'mist'; there are: .*digits.*mnist"):
        load_dataset("mist")
