"""Optimisers, schedules, clipping, initial weights and activations, each by its name."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from tests.training.samples import slice_of
from training import activations, craft, loop
from training.catalog import RECIPES, build_model
from training.config import (
    ACTIVATIONS,
    INITS,
    OPTIMIZERS,
    SCHEDULES,
    WEIGHT_DECAY,
    TrainConfig,
    changed,
)
from training.data.dataset import Dataset
from training.errors import ConfigError
from training.loop import batches_per_epoch, train

DIGITS = RECIPES["digits-mlp"].config
DENSE = {"inputs": 64, "hidden": 16, "outputs": 10}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_optimiser_learns_at_its_own_learning_rate(name: str, digits: Dataset) -> None:
    config = changed(DIGITS, optimizer=name, epochs=30 if name == "gd" else 3, device="cpu")
    checkpoint, _ = train("digits-mlp", config, digits)
    assert checkpoint.config.optimizer == name
    assert checkpoint.metrics["test_accuracy"] > 0.8


def test_gradient_descent_takes_all_samples_for_each_step_in_whatever_pieces(
    digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Without norms, which each piece has by itself, and dropout, which is drawn for each.
    monkeypatch.setattr(loop, "build_model", lambda *_: build_model("dense", DENSE))
    whole = changed(DIGITS, optimizer="gd", epochs=2, device="cpu", batch_size=10**6)
    in_pieces = replace(whole, batch_size=70)
    (_, one), (_, other) = (
        train("digits-mlp", config, slice_of(digits)) for config in (whole, in_pieces)
    )
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        assert torch.allclose(a, b, rtol=1e-4, atol=1e-6)


def test_gradient_descent_holds_no_more_samples_in_memory_than_others(
    digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    def watched(*given: Any) -> nn.Module:
        model = build_model(*given)
        model.register_forward_pre_hook(
            lambda module, inputs: seen.append(len(inputs[0])) if module.training else None
        )
        return model

    monkeypatch.setattr(loop, "build_model", watched)
    config = changed(DIGITS, optimizer="gd", epochs=1, device="cpu", batch_size=50)
    reported: list[None] = []
    train("digits-mlp", config, digits, lambda: reported.append(None))
    assert sum(seen) == len(digits.train_x)
    assert max(seen) < 2 * 50
    assert len(reported) == len(seen) == batches_per_epoch(len(digits.train_x), config)


def test_another_optimiser_comes_with_its_learning_rate_unless_one_is_named() -> None:
    assert changed(DIGITS, optimizer="adam").lr == OPTIMIZERS["adam"]
    assert changed(DIGITS, optimizer="adam", lr=0.5).lr == 0.5
    assert changed(TrainConfig(bias_scale=64.0), optimizer="adam").bias_scale == 1
    assert changed(DIGITS, optimizer=None, epochs=3) == replace(DIGITS, epochs=3)


def test_an_optimiser_in_the_place_of_adamw_does_not_drown_the_loss_in_weight_decay() -> None:
    apart = TrainConfig(optimizer="adamw", weight_decay=0.1)
    assert changed(apart, optimizer="adam").weight_decay == WEIGHT_DECAY
    assert changed(apart, optimizer="adam", weight_decay=0.2).weight_decay == 0.2
    assert changed(replace(apart, weight_decay=0.0), optimizer="sgd").weight_decay == 0
    assert changed(apart, optimizer="adamw", epochs=3).weight_decay == 0.1
    assert changed(TrainConfig(weight_decay=0.01), optimizer="adam").weight_decay == 0.01


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_the_momentum_of_adam_is_its_first_beta(name: str) -> None:
    config = changed(DIGITS, optimizer=name, momentum=0.5)
    assert craft.optimizer(nn.Linear(2, 2), config).defaults["betas"][0] == 0.5


@pytest.mark.parametrize("field", ["optimizer", "schedule", "init"])
def test_an_unknown_name_is_answered_with_the_known_ones(field: str) -> None:
    with pytest.raises(ConfigError, match=f"{field} must be one of .*, not nonsense"):
        changed(DIGITS, **{field: "nonsense"})


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_schedule_peaks_at_the_learning_rate_and_only_the_constant_one_stays(
    name: str,
) -> None:
    config = TrainConfig(lr=0.5, schedule=name, warmup=0.25)
    rates = [craft.learning_rate(step, 100, config) for step in range(100)]
    assert max(rates) == 0.5
    assert (rates[-1] == 0.5) == (name == "constant")
    peak = rates.index(0.5)
    assert rates[peak:] == sorted(rates[peak:], reverse=True)


def test_biases_learn_at_a_rate_of_their_own() -> None:
    layer = nn.Linear(2, 2)
    optimizer = craft.optimizer(layer, TrainConfig(bias_scale=64.0))
    craft.set_rate(optimizer, 0.5)
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert (rates[id(layer.weight)], rates[id(layer.bias)]) == (0.5, 32)


def gradients(config: TrainConfig) -> torch.Tensor:
    model = nn.Linear(4, 1, bias=False)
    model.weight.grad = torch.tensor([[3.0, -4.0, 0.0, 0.1]])
    craft.clip(model, config)
    return model.weight.grad


def test_clipping_by_value_bounds_each_element() -> None:
    assert gradients(TrainConfig(clip_value=1)).tolist()[0] == pytest.approx([1, -1, 0, 0.1])


def test_clipping_by_norm_keeps_the_direction() -> None:
    clipped, free = gradients(TrainConfig(clip_norm=1)), gradients(TrainConfig())
    assert clipped.norm().item() == pytest.approx(1, rel=1e-4)
    torch.testing.assert_close(clipped * free.norm(), free, rtol=1e-4, atol=1e-4)


def initialised(name: str) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    torch.manual_seed(0)
    layer = nn.Linear(400, 300)
    craft.initialise(layer, name)
    assert layer.bias.detach().abs().max() <= 1 / math.sqrt(400)  # as the layer has it
    weights: np.ndarray[tuple[int, ...], np.dtype[np.float32]] = layer.weight.detach().numpy()
    return weights


@pytest.mark.parametrize(
    ("name", "deviation"),
    [
        ("default", 1 / math.sqrt(3 * 400)),
        ("gaussian", craft.DEVIATION),
        ("uniform", craft.RANGE / math.sqrt(3)),
        ("glorot", math.sqrt(2 / 700)),
        ("he", math.sqrt(2 / 400)),
        ("sparse", math.sqrt(2 / 400)),
    ],
)
def test_initial_weights_have_their_rule_s_deviation(name: str, deviation: float) -> None:
    assert initialised(name).std() == pytest.approx(deviation, rel=0.02)


def test_sparse_weights_leave_each_unit_the_same_few_inputs() -> None:
    kept = np.count_nonzero(initialised("sparse"), axis=1)
    assert set(kept.tolist()) == {round(400 * (1 - craft.SPARSITY))}


@pytest.mark.parametrize("name", INITS)
def test_every_initialisation_fits_kernels_as_well(name: str) -> None:
    recipe = RECIPES["mnist-cnn"]
    model = build_model(recipe.architecture, recipe.architecture_config)
    craft.initialise(model, name)
    assert all(torch.isfinite(p).all() for p in model.parameters())


CHOOSING = [name for name, recipe in RECIPES.items() if "activation" in recipe.architecture_config]


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("architecture", sorted({RECIPES[name].architecture for name in CHOOSING}))
def test_every_activation_keeps_the_shape_of_what_a_network_gives(
    architecture: str, name: str
) -> None:
    recipe = next(r for r in RECIPES.values() if r.architecture == architecture)
    side = int(recipe.architecture_config.get("side", 28))
    x = torch.zeros(2, int(recipe.architecture_config.get("channels", 1)), side, side)
    if "inputs" in recipe.architecture_config:
        x = torch.zeros(2, int(recipe.architecture_config["inputs"]))
    given = build_model(architecture, recipe.architecture_config).eval()(x)
    model = build_model(architecture, recipe.with_activation(name)).eval()
    assert model(x).shape == given.shape


def test_maxout_takes_the_largest_of_its_pieces() -> None:
    x = torch.tensor([[1.0, 5.0, -2.0, -3.0]])
    assert activations.make("maxout")(x).tolist() == [[5, -2]]


@pytest.mark.parametrize("shape", [(2, 4), (2, 4, 3, 3)])
def test_an_exported_maxout_takes_any_number_of_rows(shape: tuple[int, ...]) -> None:
    batch = torch.export.Dim("batch")
    maxout = activations.make("maxout")
    program = torch.export.export(maxout, (torch.zeros(shape),), dynamic_shapes=({0: batch},))
    assert program.module()(torch.zeros(5, *shape[1:])).shape == (5, 2, *shape[2:])


def test_an_activation_that_a_recipe_has_not_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match="--activation: the architecture lstm-forecast"):
        RECIPES["ett-lstm"].with_activation("relu")
