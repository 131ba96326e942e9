"""`python -m training.latent CHECKPOINT PICTURE`: where an autoencoder puts each class of digits,
and what it makes of images under noise."""

import argparse
from pathlib import Path

import numpy as np
import torch
from sklearn.decomposition import PCA

from training import checkpoint as checkpoints
from training.curve import png
from training.data import mnist, mnist_denoising
from training.data.dataset import Array
from training.normalise import Normalise

SHOWN = 10  # images in each row


def draw(folder: Path, data_dir: Path | None) -> bytes:
    """A PNG: the codes of the test images along their two principal axes, and three rows of
    images: under noise, as they come out, and as they were."""
    from matplotlib.figure import Figure

    checkpoint = checkpoints.load(folder)
    clean = mnist.load(data_dir)
    noisy = mnist_denoising.noisy(clean.test_x)
    model, normalise = checkpoint.build(), Normalise(checkpoint.normalisation)
    with torch.inference_mode():
        codes = model.get_submodule("encoder")(normalise(torch.tensor(noisy))).numpy()
        restored = model(normalise(torch.tensor(noisy[:SHOWN]))).sigmoid().numpy() * 255
    figure = Figure(figsize=(13, 5), dpi=100, layout="constrained")
    left, right = figure.subplots(1, 2)
    _scatter(left, PCA(2).fit_transform(codes), clean.test_y)
    rows = (noisy[:SHOWN], restored, clean.test_x[:SHOWN])
    right.imshow(np.concatenate([np.concatenate(row[:, 0], axis=1) for row in rows]), cmap="gray")
    right.set_title("Under noise, restored, and as they were")
    right.axis("off")
    return png(figure)


def _scatter(axes: object, points: Array, labels: Array) -> None:
    from matplotlib.axes import Axes

    assert isinstance(axes, Axes)
    for digit in range(10):
        of_digit = points[labels == digit]
        axes.scatter(of_digit[:, 0], of_digit[:, 1], s=2, label=str(digit), color=f"C{digit}")
    axes.legend(markerscale=5, frameon=False, ncols=2)
    axes.set_title("Codes of the test images under noise, by their two principal axes")
    axes.axis("off")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("picture", type=Path)
    parser.add_argument("--data-dir", type=Path)
    given = parser.parse_args()
    given.picture.write_bytes(draw(given.checkpoint, given.data_dir))


if __name__ == "__main__":
    main()
