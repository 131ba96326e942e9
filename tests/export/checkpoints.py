"""Checkpoints without a training run: every recipe's network, with random weights."""

from pathlib import Path

import torch

from tests.training.tiny import tiny
from training import checkpoint as checkpoints
from training import tasks
from training.catalog import RECIPES, build_model
from training.checkpoint import Checkpoint, DatasetRef
from training.curve import Epoch
from training.loop import signature


def untrained(name: str, folder: Path) -> Checkpoint:
    recipe = RECIPES[name]
    dataset = tiny(recipe.dataset)
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
        signature=signature(recipe.task, dataset, recipe.architecture_config),
        labels=dataset.labels,
        normalisation=dataset.normalisation,
        metrics={},
        history=(Epoch(1, 0.1, 1.0, 1.0, 0.1, 1.0),),
        dataset=DatasetRef(recipe.dataset, "0" * 64),
        commit=None,
        versions={},
        created="2026-01-01T00:00:00+00:00",
        task=recipe.task,
        part=tasks.make(recipe.task, dataset.normalisation).part,
        columns=dataset.columns,
        tokenizer=dataset.tokenizer,
    )
    return checkpoints.save(folder / name, checkpoint, model)
