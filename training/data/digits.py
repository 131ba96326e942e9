"""scikit-learn's bundled digits: 1,797 images of 8x8 pixels, values 0 to 16. Needs no network."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from training.data.dataset import Dataset
from training.spec import Normalisation, TensorField

TEST_EVERY = 5


def load(data_dir: Path | None = None) -> Dataset:
    """`data_dir` is not looked at: the data comes with scikit-learn."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    x, y = bunch.data.astype(np.float32), bunch.target.astype(np.int64)
    test = stratified_test_mask(y)
    return Dataset(
        name="digits",
        train_x=x[~test],
        train_y=y[~test],
        test_x=x[test],
        test_y=y[test],
        labels=tuple("0123456789"),
        field=TensorField("features", "FP32", (64,)),
        # Mean and deviation of the training split, after scaling to 0..1.
        normalisation=Normalisation(scale=1 / 16, mean=(0.3051,), std=(0.3762,)),
    )


def stratified_test_mask(y: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
    """Every fifth sample of each class is a test sample: a split without a random generator, so
    that it is the same with every version of every library."""
    mask = np.zeros(len(y), dtype=bool)
    for label in np.unique(y):
        mask[np.flatnonzero(y == label)[TEST_EVERY - 1 :: TEST_EVERY]] = True
    return mask
