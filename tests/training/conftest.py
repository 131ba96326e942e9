"""Real data where it is there: `PENSTOCK_DATA`, or `shared/data` beside the project."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from training.catalog import load_dataset
from training.data.dataset import Dataset
from training.data.files import CACHE_VARIABLE, DATA_VARIABLE

PROJECT = Path(__file__).parents[2]


def find_data_dir() -> Path | None:
    named = os.environ.get(DATA_VARIABLE)
    candidates = [Path(named)] if named else []
    candidates.append(PROJECT.parent / "shared" / "data")
    return next((path for path in candidates if (path / "mnist").is_dir()), None)


DATA_DIR = find_data_dir()


@pytest.fixture(scope="package", autouse=True)
def _one_thread() -> Iterator[None]:
    """Networks as small as these are not worth a second thread, which waits for its turn on a busy
    machine."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    if DATA_DIR is None:
        pytest.skip(f"no MNIST here: name its folder with {DATA_VARIABLE}")
    return DATA_DIR


@pytest.fixture(scope="session")
def mnist(data_dir: Path) -> Dataset:
    return load_dataset("mnist", data_dir)


@pytest.fixture(scope="session")
def digits() -> Dataset:
    return load_dataset("digits")


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the cache or the settings of the person who runs it."""
    monkeypatch.setenv(CACHE_VARIABLE, str(tmp_path / "cache"))
    monkeypatch.delenv(DATA_VARIABLE, raising=False)
