"""Small things to test with: a slice of a data set, and a checkpoint trained on one."""

from dataclasses import replace
from pathlib import Path

import pytest
from torch import nn

from tests.training.tiny import CONTRACTS
from training.catalog import RECIPES, load_dataset
from training.checkpoint import Checkpoint, save
from training.data.dataset import Dataset
from training.loop import train

# What a wide network shows in a minute, a narrow one shows in a second.
NARROW = {"cifar10-resnet": {"width": 8, "wide": 16}}
# So do a day and an hour instead of four days: a conversion writes each hour by itself.
SHORT = {"etth1": (25, 7)}


def narrow(patch: pytest.MonkeyPatch) -> None:
    for name, changes in NARROW.items():
        recipe = RECIPES[name]
        config = recipe.architecture_config | changes
        patch.setitem(RECIPES, name, replace(recipe, architecture_config=config))
    for name, shape in SHORT.items():
        contract = CONTRACTS[name]
        patch.setitem(
            CONTRACTS, name, replace(contract, field=replace(contract.field, shape=shape))
        )


def slice_of(dataset: Dataset, train: int = 300, test: int = 100) -> Dataset:
    return replace(
        dataset,
        train_x=dataset.train_x[:train],
        train_y=dataset.train_y[:train],
        test_x=dataset.test_x[:test],
        test_y=dataset.test_y[:test],
    )


def train_briefly(recipe: str, dataset: Dataset, seed: int = 0) -> tuple[Checkpoint, nn.Module]:
    config = replace(RECIPES[recipe].config, epochs=1, batch_size=100, seed=seed, device="cpu")
    return train(recipe, config, slice_of(dataset))


def save_digits(path: Path, seed: int = 0) -> tuple[Checkpoint, nn.Module]:
    checkpoint, model = train_briefly("digits-mlp", load_dataset("digits"), seed)
    return save(path, checkpoint, model), model
