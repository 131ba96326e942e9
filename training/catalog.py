"""The tables of what can be trained. To add an architecture or a data set, write one file and add
one line here; the command line and the tests go through these tables.

The entries are names, imported on use: `penstock --help` must not wait for torch.
"""

import pkgutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from training.config import Augmentation, TrainConfig
from training.errors import ConfigError

if TYPE_CHECKING:
    from torch import nn

    from training.data.dataset import Dataset

ARCHITECTURES = {
    "cnn": "training.models.cnn:Cnn",
    "mlp": "training.models.mlp:Mlp",
}

DATASETS = {
    "digits": "training.data.digits:load",
    "mnist": "training.data.mnist:load",
}


@dataclass(frozen=True, slots=True)
class Recipe:
    summary: str
    dataset: str
    architecture: str
    architecture_config: dict[str, int | float]
    config: TrainConfig


RECIPES: Mapping[str, Recipe] = {
    "mnist-cnn": Recipe(
        summary="MNIST digits, convolutional",
        dataset="mnist",
        architecture="cnn",
        architecture_config={"channels": 1, "width": 16, "hidden": 128, "classes": 10},
        config=TrainConfig(epochs=8, augmentation=Augmentation()),
    ),
    "mnist-mlp": Recipe(
        summary="MNIST digits, fully connected",
        dataset="mnist",
        architecture="mlp",
        architecture_config={
            "inputs": 784, "hidden": 512, "layers": 2, "classes": 10, "dropout": 0.2,
        },
        config=TrainConfig(epochs=10),
    ),
    "digits-mlp": Recipe(
        summary="scikit-learn's digits, fully connected; needs no network",
        dataset="digits",
        architecture="mlp",
        architecture_config={
            "inputs": 64, "hidden": 128, "layers": 1, "classes": 10, "dropout": 0.1,
        },
        config=TrainConfig(epochs=20, batch_size=50),
    ),
}  # fmt: skip


def build_model(architecture: str, config: Mapping[str, int | float]) -> "nn.Module":
    build = _resolve(ARCHITECTURES, "architecture", architecture)
    try:
        model: nn.Module = build(**config)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ConfigError(f"architecture {architecture} cannot be built: {error}") from error
    return model


def load_dataset(name: str, data_dir: Path | None = None) -> "Dataset":
    load = _resolve(DATASETS, "data set", name)
    dataset: Dataset = load(data_dir)
    return dataset


def _resolve(table: Mapping[str, str], what: str, name: str) -> Any:
    if name not in table:
        raise ConfigError(f"no {what} is called {name!r}; there are: {', '.join(sorted(table))}")
    return pkgutil.resolve_name(table[name])
