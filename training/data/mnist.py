"""MNIST: handwritten digits, 60,000 to train and 10,000 to test, as 28x28 grey pixels."""

from pathlib import Path

from training.data import idx
from training.data.dataset import Dataset
from training.data.files import fetch
from training.data.remote import RemoteFile
from training.spec import Normalisation, TensorField

# The first is the canonical home; it has been slow or closed for years, so it is asked last.
_HOME = "http://yann.lecun.com/exdb/mnist/"
_MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
    _HOME,
)


def _remote(name: str, size: int, sha256: str) -> RemoteFile:
    return RemoteFile(name, size, sha256, tuple(mirror + name for mirror in _MIRRORS))


TRAIN_IMAGES = _remote(
    "train-images-idx3-ubyte.gz",
    9_912_422,
    "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
)
TRAIN_LABELS = _remote(
    "train-labels-idx1-ubyte.gz",
    28_881,
    "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
)
TEST_IMAGES = _remote(
    "t10k-images-idx3-ubyte.gz",
    1_648_877,
    "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
)
TEST_LABELS = _remote(
    "t10k-labels-idx1-ubyte.gz",
    4_542,
    "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
)
FILES = (TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS)


def load(data_dir: Path | None = None) -> Dataset:
    files = {file: fetch("mnist", file, data_dir) for file in FILES}
    return Dataset(
        name="mnist",
        train_x=idx.images(files[TRAIN_IMAGES]),
        train_y=idx.labels(files[TRAIN_LABELS]),
        test_x=idx.images(files[TEST_IMAGES]),
        test_y=idx.labels(files[TEST_LABELS]),
        labels=tuple("0123456789"),
        field=TensorField("image", "UINT8", (1, 28, 28)),
        # Mean and deviation of the training pixels, after scaling to 0..1.
        normalisation=Normalisation(scale=1 / 255, mean=(0.1307,), std=(0.3081,)),
    )
