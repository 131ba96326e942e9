"""MNIST for generators: latents in, which know nothing of the pictures that are the targets. A
batch of latents is to become pictures like a batch of real ones, not picture for picture."""

from pathlib import Path

import numpy as np

from training.data import mnist
from training.data.dataset import Array, Dataset
from training.spec import UNCHANGED, TensorField

LATENT = 64
SEED = 0


def load(data_dir: Path | None = None) -> Dataset:
    pictures = mnist.load(data_dir)
    latents = draw(len(pictures.train_x) + len(pictures.test_x))
    return Dataset(
        name="mnist-latent",
        train_x=latents[: len(pictures.train_x)],
        train_y=pictures.train_x,
        test_x=latents[len(pictures.train_x) :],
        test_y=pictures.test_x,
        labels=(),
        field=TensorField("latent", "FP32", (LATENT,)),
        normalisation=UNCHANGED,
    )


def draw(count: int) -> Array:
    """Standard normal numbers, (count, LATENT): the same ones, whoever asks."""
    return np.random.default_rng(SEED).standard_normal((count, LATENT), np.float32)
