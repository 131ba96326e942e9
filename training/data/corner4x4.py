"""The toy that motivates convolution: is the stroke in a 4x4 image a horizontal one?

Each image has one stroke of two pixels, across or down, and at most one stray pixel that touches
it nowhere. In training and test the strokes lie within the upper left corner of 3x3 pixels, the
stray ones anywhere; the probe `unseen` has all the strokes that lie elsewhere. All images there
are, each once: nothing is drawn at random.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt

from training.data.dataset import Dataset
from training.data.digits import stratified_test_mask
from training.spec import Normalisation, TensorField

SIDE = 4
CORNER = 3
LABELS = ("vertical", "horizontal")

Pixel = tuple[int, int]
Stroke = tuple[Pixel, Pixel]


def load(data_dir: Path | None = None) -> Dataset:
    """`data_dir` is not looked at: the data is made here."""
    x, y, seen = _images()
    test = np.zeros(len(y), dtype=bool)
    test[seen] = stratified_test_mask(y[seen])
    return Dataset(
        name="corner4x4",
        train_x=x[seen & ~test],
        train_y=y[seen & ~test],
        test_x=x[test],
        test_y=y[test],
        labels=LABELS,
        field=TensorField("image", "UINT8", (1, SIDE, SIDE)),
        # Mean and deviation of the training pixels, after scaling to 0..1.
        normalisation=Normalisation(scale=1 / 255, mean=(0.1782,), std=(0.3827,)),
        probes={"unseen": (x[~seen], y[~seen])},
    )


def _images() -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Images (N, 1, 4, 4), labels (N,), and whether the stroke lies in the corner (N,)."""
    drawn = [
        (_draw(*stroke, *stray), int(stroke[0][0] == stroke[1][0]), max(map(max, stroke)) < CORNER)
        for stroke in _strokes()
        for stray in _strays(stroke)
    ]
    images, labels, seen = zip(*drawn, strict=True)
    return np.stack(images)[:, None], np.array(labels, dtype=np.int64), np.array(seen)


def _strokes() -> Iterator[Stroke]:
    for row, column in np.ndindex(SIDE, SIDE):
        if column + 1 < SIDE:
            yield (row, column), (row, column + 1)
        if row + 1 < SIDE:
            yield (row, column), (row + 1, column)


def _strays(stroke: Stroke) -> Iterator[tuple[Pixel, ...]]:
    """None, and each pixel that is neither part of the stroke nor beside it, corners included."""
    yield ()
    for row, column in np.ndindex(SIDE, SIDE):
        if all(max(abs(row - r), abs(column - c)) > 1 for r, c in stroke):
            yield ((row, column),)


def _draw(*pixels: Pixel) -> npt.NDArray[np.uint8]:
    image = np.zeros((SIDE, SIDE), dtype=np.uint8)
    for pixel in pixels:
        image[pixel] = 255
    return image
