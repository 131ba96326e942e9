"""What every recipe in the catalog promises, whoever adds one."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from export.runners import torch_runner
from tests.training.samples import narrow, slice_of, train_briefly
from tests.training.tiny import tiny
from training import frechet, tasks
from training.catalog import RECIPES
from training.checkpoint import Checkpoint, load, save
from training.data.dataset import Dataset

# Of a whole module, so that all tests of a recipe look at one training. A translator answers by a
# search, which `test_translation` looks at.
pytestmark = pytest.mark.parametrize(
    "recipe", [name for name in RECIPES if name != "multi30k-transformer"], scope="module"
)


@pytest.fixture(scope="module", autouse=True)
def _narrow() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        narrow(patch)
        yield


@pytest.fixture(scope="module")
def dataset(recipe: str) -> Dataset:
    return tiny(RECIPES[recipe].dataset)


@pytest.fixture(scope="module")
def trained(
    recipe: str, dataset: Dataset, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Checkpoint, nn.Module]:
    """The checkpoint, saved, and the network as training left it."""
    checkpoint, model = train_briefly(recipe, dataset)
    return save(tmp_path_factory.mktemp("runs") / recipe, checkpoint, model), model


def test_its_checkpoint_rebuilds_its_model(
    dataset: Dataset, trained: tuple[Checkpoint, nn.Module]
) -> None:
    checkpoint, model = trained
    loaded = load(Path(checkpoint.folder))
    task = tasks.make(loaded.task, loaded.normalisation)
    x = task.preprocessing(loaded.normalisation)(torch.tensor(dataset.test_x[:50]))
    with torch.no_grad():
        torch.testing.assert_close(loaded.build()(x), model(x), rtol=0, atol=0)


def test_its_figures_are_those_of_the_rebuilt_model(
    dataset: Dataset, trained: tuple[Checkpoint, nn.Module]
) -> None:
    checkpoint, _ = trained
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


def test_its_signature_fits_its_data(
    dataset: Dataset, trained: tuple[Checkpoint, nn.Module]
) -> None:
    checkpoint, _ = trained
    outputs = torch_runner(checkpoint)(dataset.test_x[:2])
    assert checkpoint.signature.inputs[0] == dataset.field
    described = {output.name: output.shape for output in checkpoint.signature.outputs}
    assert described.keys() == outputs.keys()
    for name, answer in outputs.items():
        shape = zip(answer.shape[1:], described[name], strict=True)
        assert all(stated in (-1, found) for found, stated in shape)
    for name in {"logits", "probabilities"} & described.keys() if dataset.labels else ():
        assert described[name] == (len(dataset.labels),)
