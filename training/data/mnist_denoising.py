"""MNIST to be cleaned: test images under noise in, the images themselves as targets. Noise for
training is drawn anew for each image, by the augmentation."""

from pathlib import Path

import numpy as np

from training.data import mnist
from training.data.dataset import Array, Dataset

NOISE = 64.0  # grey levels, of 255: the deviation of the noise on each pixel
SEED = 0


def load(data_dir: Path | None = None) -> Dataset:
    clean = mnist.load(data_dir)
    return Dataset(
        name="mnist-denoising",
        train_x=clean.train_x,
        train_y=clean.train_x,
        test_x=noisy(clean.test_x),
        test_y=clean.test_x,
        labels=(),
        field=clean.field,
        normalisation=clean.normalisation,
        probes={"clean": (clean.test_x, clean.test_x)},
    )


def noisy(images: Array) -> Array:
    """The same noise for the same images, whoever asks."""
    noise = np.random.default_rng(SEED).normal(0, NOISE, images.shape)
    return (images + noise).round().clip(0, 255).astype(np.uint8)
