"""CIFAR-10 in both of its forms: the official archive, and the smaller copy."""

import io
import lzma
import tarfile
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from training.data import cifar10, cifar10_pair, med
from training.data.dataset import Dataset
from training.errors import DataError
from training.spec import TensorField

Pixels = npt.NDArray[np.uint8]


def pictures(count: int) -> Pixels:
    return np.random.default_rng(0).integers(0, 256, (count, *cifar10.SHAPE), np.uint8)


def rows(x: Pixels, y: Pixels) -> bytes:
    return np.concatenate([y[:, None], x.reshape(len(x), -1)], axis=1).tobytes()


def encode(x: Pixels) -> bytes:
    """What `med.decode` undoes, written a pixel at a time, as the format's description goes."""
    planes = np.stack([x[:, 1], x[:, 0] - x[:, 1], x[:, 2] - x[:, 1]])
    residuals = planes.copy()
    for index in np.ndindex(planes.shape):
        *picture, i, j = index
        plane = planes[tuple(picture)].astype(int)
        around = [plane[i, j - 1]] * (j > 0) + [plane[i - 1, j]] * (i > 0)
        if len(around) == 2:
            around.append(sum(around) - plane[i - 1, j - 1])
        residuals[index] = (plane[i, j] - (sorted(around)[len(around) // 2] if around else 0)) % 256
    return lzma.compress(residuals.tobytes())


def archive(folder: Path, files: dict[str, bytes]) -> Path:
    path = folder / "cifar.tar.gz"
    with tarfile.open(path, "w:gz") as opened:
        for name, data in files.items():
            member = tarfile.TarInfo(f"cifar-10-batches-bin/{name}")
            member.size = len(data)
            opened.addfile(member, io.BytesIO(data))
    return path


def test_the_copy_decodes_to_the_pictures_that_were_encoded() -> None:
    x = pictures(3)
    np.testing.assert_array_equal(med.decode(encode(x), 3, cifar10.SHAPE, "file"), x)


@pytest.mark.parametrize(
    ("data", "named"), [(b"no xz", "not a whole xz file"), (lzma.compress(b"short"), "holds 5")]
)
def test_a_copy_that_is_none_is_a_data_error(data: bytes, named: str) -> None:
    with pytest.raises(DataError, match=named):
        med.decode(data, 1, cifar10.SHAPE, "file")


def test_the_archive_holds_five_batches_to_train_and_one_to_test(tmp_path: Path) -> None:
    x, y = pictures(12), (np.arange(12) % 10).astype(np.uint8)
    parts = {
        name: rows(x[2 * i : 2 * i + 2], y[2 * i : 2 * i + 2])
        for i, name in enumerate((*cifar10.BATCHES, cifar10.TEST_BATCH))
    }
    (train_x, train_y), (test_x, test_y) = cifar10.read_archive(archive(tmp_path, parts))
    np.testing.assert_array_equal(np.concatenate([train_x, test_x]), x)
    assert [*train_y, *test_y] == y.tolist()


def test_an_archive_that_lacks_a_batch_is_a_data_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"holds no data_batch_1\.bin"):
        cifar10.read_archive(archive(tmp_path, {"test_batch.bin": b""}))


def test_a_file_that_is_no_archive_is_a_data_error(tmp_path: Path) -> None:
    (tmp_path / "cifar.tar.gz").write_bytes(b"no archive")
    with pytest.raises(DataError, match="not a whole archive"):
        cifar10.read_archive(tmp_path / "cifar.tar.gz")


@pytest.mark.parametrize(
    ("data", "named"), [(bytes(3072), "no whole number"), (b"\x0a" + bytes(3072), "label 10")]
)
def test_rows_that_are_none_are_a_data_error(data: bytes, named: str) -> None:
    with pytest.raises(DataError, match=named):
        cifar10.parse(data, "batch")


def test_the_pair_keeps_two_classes_and_doubles_each_side() -> None:
    x, y = pictures(20), np.arange(20) % 10
    whole = Dataset(
        "cifar10", x, y, x, y, cifar10.LABELS,
        TensorField("image", "UINT8", cifar10.SHAPE), cifar10.NORMALISATION,
    )  # fmt: skip
    pair = cifar10_pair.pair(whole)
    assert pair.train_y.tolist() == [0, 1, 0, 1]
    assert pair.train_x.shape == (4, 3, 64, 64)
    np.testing.assert_array_equal(pair.train_x[1, :, ::2, ::2], x[9])
    np.testing.assert_array_equal(pair.train_x[1, :, 1::2, 1::2], x[9])
