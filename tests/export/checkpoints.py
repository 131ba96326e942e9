"""Checkpoints without a training run: every recipe's network, with random weights."""

from dataclasses import dataclass
from pathlib import Path

import torch

from training import checkpoint as checkpoints
from training.catalog import RECIPES, build_model
from training.checkpoint import Checkpoint, DatasetRef
from training.curve import Epoch
from training.spec import Normalisation, TensorField, classifier


@dataclass(frozen=True, slots=True)
class Contract:
    field: TensorField
    normalisation: Normalisation


# Of each data set, so that the tests need none of them at hand.
CONTRACTS = {
    "mnist": Contract(
        TensorField("image", "UINT8", (1, 28, 28)), Normalisation(1 / 255, (0.1307,), (0.3081,))
    ),
    "digits": Contract(
        TensorField("features", "FP32", (64,)), Normalisation(1 / 16, (0.3056,), (0.3762,))
    ),
}


def untrained(name: str, folder: Path) -> Checkpoint:
    recipe = RECIPES[name]
    contract = CONTRACTS[recipe.dataset]
    labels = tuple(map(str, range(int(recipe.architecture_config["classes"]))))
    torch.manual_seed(0)
    model = build_model(recipe.architecture, recipe.architecture_config)
    for buffer_name, buffer in model.named_buffers():
        if buffer_name.endswith(("running_mean", "running_var")):
            buffer.uniform_(0.5, 2.0)  # fresh norms would change nothing
    checkpoint = Checkpoint(
        recipe=name,
        architecture=recipe.architecture,
        architecture_config=recipe.architecture_config,
        config=recipe.config,
        signature=classifier(contract.field, len(labels)),
        labels=labels,
        normalisation=contract.normalisation,
        metrics={},
        history=(Epoch(1, 0.1, 1.0, 1.0, 0.1, 1.0),),
        dataset=DatasetRef(recipe.dataset, "0" * 64),
        commit=None,
        versions={},
        created="2026-01-01T00:00:00+00:00",
    )
    return checkpoints.save(folder / name, checkpoint, model)
