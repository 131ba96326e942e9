"""CIFAR-10: 50,000 colour pictures of ten things to train and 10,000 to test, 32x32 pixels."""

import tarfile
from pathlib import Path

import numpy as np
import numpy.typing as npt

from training.data import med
from training.data.dataset import Dataset
from training.data.files import fetch, find
from training.data.remote import RemoteFile
from training.errors import DataError
from training.spec import Normalisation, TensorField

_HOME = "https://www.cs.toronto.edu/~kriz/"
ARCHIVE = RemoteFile(
    "cifar-10-binary.tar.gz",
    170_052_171,
    "c4a38c50a1bc5f3a1c5537f2155ab9d68f9f25eb1ed8d9ddda3db29a59bca1dd",
    (f"{_HOME}cifar-10-binary.tar.gz",),
)
BATCHES = tuple(f"data_batch_{number}.bin" for number in range(1, 6))
TEST_BATCH = "test_batch.bin"

# A smaller copy in four files, taken where it lies in the user's folder. 109 of its pictures come
# from a JPEG: a model trained on it is proven on it, by its hash, and not on the archive.
COPY = (
    RemoteFile(
        "cifar10-train-images.med.xz",
        83_229_332,
        "202165c4bedf953859ee8a95f47732090ba0ff5182d427f6080baa4da0ff1300",
        (_HOME,),
    ),
    RemoteFile(
        "cifar10-train-labels.u8",
        50_000,
        "2b7cd2f24487317614016b72ffd53071c3062f592f0eb300c18a770d41ae1253",
        (_HOME,),
    ),
    RemoteFile(
        "cifar10-test-images.med.xz",
        16_637_452,
        "9276de15e6a363e86ac9da7d742bb32f8719e9f488a1e1f862f0021455e4b1e5",
        (_HOME,),
    ),
    RemoteFile(
        "cifar10-test-labels.u8",
        10_000,
        "cec8a24a1e92aa2ecaa0bbd3dbfa86bf6cd8759fbd209a832824c8cf0afca9d5",
        (_HOME,),
    ),
)

LABELS = (
    "airplane",
    "automobile",
    "bird",
    "cat",
    "deer",
    "dog",
    "frog",
    "horse",
    "ship",
    "truck",
)
SHAPE = (3, 32, 32)
# Of the training pixels, after scaling to 0..1.
NORMALISATION = Normalisation(
    scale=1 / 255, mean=(0.4914, 0.4822, 0.4465), std=(0.2470, 0.2435, 0.2616)
)

Pixels = npt.NDArray[np.uint8]
Labels = npt.NDArray[np.int64]


def load(data_dir: Path | None = None) -> Dataset:
    copy = [find("cifar10", file, data_dir) for file in COPY]
    if all(copy):
        train, test = (_copied(copy[at], copy[at + 1]) for at in (0, 2))
    else:
        train, test = read_archive(fetch("cifar10", ARCHIVE, data_dir))
    return Dataset(
        name="cifar10",
        train_x=train[0],
        train_y=train[1],
        test_x=test[0],
        test_y=test[1],
        labels=LABELS,
        field=TensorField("image", "UINT8", SHAPE),
        normalisation=NORMALISATION,
    )


def _copied(images: Path | None, labels: Path | None) -> tuple[Pixels, Labels]:
    assert images is not None
    assert labels is not None
    y = np.fromfile(labels, np.uint8).astype(np.int64)
    return med.decode(images.read_bytes(), len(y), SHAPE, images.name), y


def read_archive(path: Path) -> tuple[tuple[Pixels, Labels], tuple[Pixels, Labels]]:
    """Training and test set of the official binary version: rows of a label and 3,072 pixels."""
    wanted = (*BATCHES, TEST_BATCH)
    found: dict[str, bytes] = {}
    try:
        with tarfile.open(path, "r:gz") as archive:
            for member in archive:
                name = member.name.rpartition("/")[2]
                if name in wanted and (opened := archive.extractfile(member)):
                    found[name] = opened.read()
    except (tarfile.TarError, OSError, EOFError) as error:
        raise DataError(f"{path}: not a whole archive ({error})") from error
    if missing := [name for name in wanted if name not in found]:
        raise DataError(f"{path}: holds no {missing[0]}")
    return (
        parse(b"".join(found[name] for name in BATCHES), path.name),
        parse(found[TEST_BATCH], path.name),
    )


def parse(data: bytes, name: str) -> tuple[Pixels, Labels]:
    size = 1 + int(np.prod(SHAPE))
    if len(data) % size:
        raise DataError(f"{name}: {len(data)} bytes are no whole number of rows of {size}")
    rows = np.frombuffer(data, np.uint8).reshape(-1, size)
    if rows.size and rows[:, 0].max() >= len(LABELS):
        raise DataError(f"{name}: holds the label {rows[:, 0].max()}; there are 0 to 9")
    return np.ascontiguousarray(rows[:, 1:]).reshape(-1, *SHAPE), rows[:, 0].astype(np.int64)
