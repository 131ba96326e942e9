"""A generator and its discriminator: each learns by its own part of the loss, and pictures are
measured by Fréchet's distance."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from training import frechet, tasks
from training.data import mnist_latent
from training.models.dcgan import Dcgan
from training.spec import UNCHANGED

REAL, MADE, JUDGED = range(3)  # the columns of what the discriminator says


@pytest.fixture
def net() -> Dcgan:
    torch.manual_seed(0)
    return Dcgan(latent=8, width=4)


@pytest.fixture
def said(net: Dcgan) -> Tensor:
    pictures = torch.randint(0, 256, (6, 1, 28, 28), dtype=torch.uint8)
    return tasks.make("generation", UNCHANGED).outputs(net, torch.randn(6, 8), pictures)


def has_learnt(part: nn.Module) -> bool:
    return any(each.grad is not None and bool(each.grad.any()) for each in part.parameters())


@pytest.mark.parametrize(
    ("column", "of_the_generator"), [(REAL, False), (MADE, False), (JUDGED, True)]
)
def test_each_part_of_the_loss_teaches_one_network(
    net: Dcgan, said: Tensor, column: int, of_the_generator: bool
) -> None:
    said[:, column].sum().backward()  # type: ignore[no-untyped-call]
    assert has_learnt(net.generator) == of_the_generator
    assert has_learnt(net.discriminator) != of_the_generator


def test_both_networks_are_told_the_same_of_generated_pictures(said: Tensor) -> None:
    torch.testing.assert_close(said[:, MADE], said[:, JUDGED])


def loss(real: float, made: float, judged: float, smoothing: float = 0.0) -> float:
    said = torch.tensor([[real, made, judged]], dtype=torch.float32)
    return tasks.make("generation", UNCHANGED).loss(said, torch.zeros(1), smoothing).item()


def test_the_loss_is_three_times_that_of_a_coin_for_a_discriminator_that_knows_nothing() -> None:
    assert loss(0, 0, 0) == pytest.approx(3 * np.log(2))


def test_telling_pictures_apart_pays_and_so_does_being_held_for_real() -> None:
    assert loss(1, 0, 0) < loss(0, 0, 0) < loss(-1, 0, 0)
    assert loss(0, -1, 0) < loss(0, 0, 0) < loss(0, 1, 0)
    assert loss(0, 0, 1) < loss(0, 0, 0) < loss(0, 0, -1)


def test_labels_of_real_pictures_alone_are_smoothed() -> None:
    assert loss(5, 0, 0, smoothing=0.1) > loss(np.log(9), 0, 0, smoothing=0.1)  # 90 % sure
    difference = loss(0, 3, 3, smoothing=0.1) - loss(0, 3, 3)
    assert difference == pytest.approx(0, abs=1e-6)


def test_sets_with_the_same_moments_are_at_no_distance() -> None:
    features = np.random.default_rng(0).normal(size=(50, 5))
    assert frechet.distance(features, features[::-1]) == pytest.approx(0, abs=1e-9)


def test_the_distance_of_two_normal_distributions_is_frechet_s() -> None:
    # Two independent features: the means are 3 and 4 apart, the deviations 1 and 0, 2 and 5.
    signs = np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]]) * np.sqrt(3 / 4)
    some, others = signs * [1, 2], signs * [0, 5] + [3, 4]
    assert frechet.distance(some, others) == pytest.approx(3**2 + 4**2 + 1**2 + 3**2)


def test_correlations_count() -> None:
    x = np.random.default_rng(0).normal(size=(1000, 1))
    along, across = np.hstack([x, x]), np.hstack([x, -x])
    assert frechet.distance(along, across) > 1


def test_latents_are_standard_normal_and_the_same_whoever_asks() -> None:
    latents = mnist_latent.draw(1000)
    assert np.array_equal(latents[:10], mnist_latent.draw(10))
    assert latents.shape == (1000, mnist_latent.LATENT)
    assert (latents.mean(), latents.std()) == pytest.approx((0, 1), abs=0.02)
