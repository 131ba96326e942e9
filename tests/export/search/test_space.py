"""The space of a search: declared for every architecture that can be exported and compared."""

import pytest
import torch
from optuna.trial import FixedTrial

from export.search import space as spaces
from export.search.space import SPACES, candidate, own_point, shape, space, told
from training.catalog import RECIPES, Recipe, build_model
from training.config import ACTIVATIONS
from training.errors import ConfigError

SEARCHED = {name: each for name, each in RECIPES.items() if each.architecture in SPACES}


def suggest(recipe: Recipe, point: dict[str, spaces.Value]) -> dict[str, spaces.Value]:
    """The point as optuna suggests it, which warns of what is not within the space."""
    trial = FixedTrial(point)
    return {name: trial._suggest(name, each) for name, each in space(recipe).items()}


@pytest.mark.parametrize("name", SEARCHED)
def test_the_recipe_itself_is_a_point_of_its_space(name: str) -> None:
    recipe = RECIPES[name]
    point = own_point(recipe)
    assert suggest(recipe, point) == point
    own = candidate(recipe, recipe.config, point)
    assert own.architecture == recipe.architecture_config
    assert own.config.lr == pytest.approx(recipe.config.lr)
    assert own.config.optimizer == recipe.config.optimizer


@pytest.mark.parametrize("architecture", SPACES)
@pytest.mark.parametrize("end", [0, -1])
def test_the_smallest_and_the_largest_network_of_a_space_can_be_built(
    architecture: str, end: int
) -> None:
    recipe = next(each for each in RECIPES.values() if each.architecture == architecture)
    limits = spaces.listed(space(recipe))
    chosen = candidate(recipe, recipe.config, {name: ends[end] for name, ends in limits.items()})
    with torch.device("meta"):
        build_model(architecture, chosen.architecture)


def test_an_architecture_without_a_space_is_refused() -> None:
    gpt = RECIPES["shakespeare-gpt"]
    with pytest.raises(ConfigError, match=r"architecture gpt has no space.* cnn, dense"):
        space(gpt)


def test_the_learning_rate_is_a_multiple_of_what_suits_the_optimiser() -> None:
    recipe = RECIPES["digits-mlp"]
    point = own_point(recipe) | {"optimizer": "rmsprop", "lr": 2.0}
    config = candidate(recipe, recipe.config, point).config
    assert (config.optimizer, config.lr) == ("rmsprop", 0.002)


def test_what_a_network_is_trained_by_does_not_change_its_shape() -> None:
    point = own_point(RECIPES["digits-mlp"])
    assert shape(point) == {"layers": 1, "hidden": 128, "activation": "relu"}
    assert told(point).endswith("dropout 0.1 activation relu optimizer nesterov lr x1")
    assert set(spaces.listed(space(RECIPES["digits-mlp"]))["activation"]) == set(ACTIVATIONS)
