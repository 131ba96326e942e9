"""scikit-learn's bundled breast cancer set: 569 biopsies, benign or malignant, by eight features of
their cells' nuclei. Needs no network."""

from pathlib import Path

import numpy as np

from training.data.dataset import Dataset
from training.data.digits import stratified_test_mask
from training.spec import Normalisation, TensorField

# The mean of each property over the nuclei, but perimeter and area, which the radius tells as well.
FEATURES = (
    "mean radius",
    "mean texture",
    "mean smoothness",
    "mean compactness",
    "mean concavity",
    "mean concave points",
    "mean symmetry",
    "mean fractal dimension",
)
LABELS = ("benign", "malignant")


def load(data_dir: Path | None = None) -> Dataset:
    """`data_dir` is not looked at: the data comes with scikit-learn."""
    from sklearn.datasets import load_breast_cancer

    bunch = load_breast_cancer()
    columns = [list(bunch.feature_names).index(name) for name in FEATURES]
    x = bunch.data[:, columns].astype(np.float32)
    y = (bunch.target == list(bunch.target_names).index("malignant")).astype(np.int64)
    test = stratified_test_mask(y)
    mean, deviation = x[~test].mean(axis=0), x[~test].std(axis=0)
    return Dataset(
        name="breast-cancer",
        train_x=x[~test],
        train_y=y[~test],
        test_x=x[test],
        test_y=y[test],
        labels=LABELS,
        field=TensorField("features", "FP32", (len(FEATURES),)),
        normalisation=Normalisation(
            scale=1.0, mean=tuple(map(float, mean)), std=tuple(map(float, deviation))
        ),
        columns=FEATURES,
    )
