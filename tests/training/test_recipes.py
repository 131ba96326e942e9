"""What every recipe in the catalog promises, whoever adds one."""

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.training.samples import slice_of, train_briefly
from training.catalog import RECIPES
from training.checkpoint import load, save
from training.data.dataset import Dataset
from training.normalise import Normalise

every_recipe = pytest.mark.parametrize("recipe", RECIPES)


@pytest.fixture
def dataset(recipe: str, request: pytest.FixtureRequest) -> Dataset:
    found: Dataset = request.getfixturevalue(RECIPES[recipe].dataset)
    return found


@every_recipe
def test_its_checkpoint_rebuilds_its_model(recipe: str, dataset: Dataset, tmp_path: Path) -> None:
    checkpoint, model = train_briefly(recipe, dataset)
    save(tmp_path / recipe, checkpoint, model)
    loaded = load(tmp_path / recipe)
    x = Normalise(loaded.normalisation)(torch.tensor(dataset.test_x[:50]))
    with torch.no_grad():
        assert torch.equal(loaded.build()(x), model(x))


@every_recipe
def test_its_accuracy_is_that_of_the_rebuilt_model(
    recipe: str, dataset: Dataset, tmp_path: Path
) -> None:
    checkpoint = save(tmp_path / recipe, *train_briefly(recipe, dataset))
    test = slice_of(dataset)
    x = Normalise(checkpoint.normalisation)(torch.tensor(test.test_x))
    with torch.no_grad():
        guesses = checkpoint.build()(x).argmax(1).numpy()
    assert checkpoint.metrics["test_accuracy"] == np.mean(guesses == test.test_y)


@every_recipe
def test_its_signature_fits_its_data(recipe: str, dataset: Dataset) -> None:
    checkpoint, _ = train_briefly(recipe, dataset)
    assert checkpoint.signature.inputs == (dataset.field,)
    assert [output.name for output in checkpoint.signature.outputs] == ["logits", "probabilities"]
    assert {output.shape for output in checkpoint.signature.outputs} == {(len(dataset.labels),)}
