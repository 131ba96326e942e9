"""What every recipe in the catalog promises, whoever adds one."""

from pathlib import Path

import numpy as np
import pytest
import torch

from export.runners import torch_runner
from tests.training.samples import narrow, slice_of, train_briefly
from tests.training.tiny import tiny
from training import frechet, tasks
from training.catalog import RECIPES
from training.checkpoint import load, save
from training.data.dataset import Dataset

every_recipe = pytest.mark.parametrize("recipe", RECIPES)


@pytest.fixture(autouse=True)
def _narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    narrow(monkeypatch)


@pytest.fixture
def dataset(recipe: str) -> Dataset:
    return tiny(RECIPES[recipe].dataset)


@every_recipe
def test_its_checkpoint_rebuilds_its_model(recipe: str, dataset: Dataset, tmp_path: Path) -> None:
    checkpoint, model = train_briefly(recipe, dataset)
    save(tmp_path / recipe, checkpoint, model)
    loaded = load(tmp_path / recipe)
    task = tasks.make(loaded.task, loaded.normalisation)
    x = task.preprocessing(loaded.normalisation)(torch.tensor(dataset.test_x[:50]))
    with torch.no_grad():
        torch.testing.assert_close(loaded.build()(x), model(x), rtol=0, atol=0)


@every_recipe
def test_its_figures_are_those_of_the_rebuilt_model(
    recipe: str, dataset: Dataset, tmp_path: Path
) -> None:
    checkpoint = save(tmp_path / recipe, *train_briefly(recipe, dataset))
    test = slice_of(dataset)
    outputs = torch_runner(checkpoint)(test.test_x)
    metrics = checkpoint.metrics
    assert metrics["test_n"] == len(test.test_y)
    if "probabilities" in outputs:
        guesses = outputs["probabilities"].argmax(axis=1)
        assert metrics["test_accuracy"] == np.mean(guesses == test.test_y)
    elif "reconstruction" in outputs:
        off = outputs["reconstruction"] - test.test_y / 255
        assert metrics["test_mse"] == pytest.approx(np.mean(off**2), rel=1e-4)
    elif "image" in outputs:
        sets = (outputs["image"], test.test_y / 255)
        apart = frechet.distance(*(each.reshape(len(test.test_y), -1) for each in sets))
        assert metrics["test_frechet"] == pytest.approx(apart, rel=1e-4)
    elif "logits" in outputs:
        logits = outputs["logits"].astype(np.float64)
        sums = np.log(np.exp(logits).sum(axis=2))
        chosen = np.take_along_axis(logits, test.test_y[..., None], axis=2)[..., 0]
        assert metrics["test_nats"] == pytest.approx((sums - chosen).mean(), rel=1e-4)
    else:
        off = (outputs["forecast"] - test.test_y) / np.array(checkpoint.normalisation.std)
        assert metrics["test_mse"] == pytest.approx(np.mean(off**2), rel=1e-4)


@every_recipe
def test_its_signature_fits_its_data(recipe: str, dataset: Dataset, tmp_path: Path) -> None:
    checkpoint, model = train_briefly(recipe, dataset)
    outputs = torch_runner(save(tmp_path / recipe, checkpoint, model))(dataset.test_x[:2])
    assert checkpoint.signature.inputs[0] == dataset.field
    described = {output.name: output.shape for output in checkpoint.signature.outputs}
    assert described.keys() == outputs.keys()
    for name, answer in outputs.items():
        shape = zip(answer.shape[1:], described[name], strict=True)
        assert all(stated in (-1, found) for found, stated in shape)
    for name in {"logits", "probabilities"} & described.keys() if dataset.labels else ():
        assert described[name] == (len(dataset.labels),)
