"""Fashion-MNIST: clothing, 60,000 to train and 10,000 to test, as 28x28 grey pixels."""

from pathlib import Path

from training.data import idx
from training.data.dataset import Dataset
from training.data.files import fetch
from training.data.remote import RemoteFile
from training.spec import Normalisation, TensorField

_MIRRORS = (
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    "https://raw.githubusercontent.com/zalandoresearch/fashion-mnist/master/data/fashion/",
)


def _remote(name: str, size: int, sha256: str) -> RemoteFile:
    return RemoteFile(name, size, sha256, tuple(mirror + name for mirror in _MIRRORS))


TRAIN_IMAGES = _remote(
    "train-images-idx3-ubyte.gz",
    26_421_880,
    "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
)
TRAIN_LABELS = _remote(
    "train-labels-idx1-ubyte.gz",
    29_515,
    "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
)
TEST_IMAGES = _remote(
    "t10k-images-idx3-ubyte.gz",
    4_422_102,
    "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
)
TEST_LABELS = _remote(
    "t10k-labels-idx1-ubyte.gz",
    5_148,
    "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
)
FILES = (TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS)
LABELS = (
    "T-shirt/top",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
)


def load(data_dir: Path | None = None) -> Dataset:
    files = {file: fetch("fashion-mnist", file, data_dir) for file in FILES}
    return Dataset(
        name="fashion-mnist",
        train_x=idx.images(files[TRAIN_IMAGES]),
        train_y=idx.labels(files[TRAIN_LABELS]),
        test_x=idx.images(files[TEST_IMAGES]),
        test_y=idx.labels(files[TEST_LABELS]),
        labels=LABELS,
        field=TensorField("image", "UINT8", (1, 28, 28)),
        # Mean and deviation of the training pixels, after scaling to 0..1.
        normalisation=Normalisation(scale=1 / 255, mean=(0.2860,), std=(0.3530,)),
    )
