"""Distorted images: by how much, whose turn it is to be mirrored, and how small they begin."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn.functional import pad

from training.augment import Augmenter, distort, shrink
from training.config import Augmentation, TrainConfig

STILL = Augmentation(rotation=0, scale=0, shear=0, shift=0)
ALTERNATING = replace(STILL, mirror=True, alternate=True)


def test_no_distortion_changes_nothing() -> None:
    images = torch.rand(3, 1, 28, 28)
    torch.testing.assert_close(distort(images, STILL), images)


def test_a_shift_moves_at_most_so_many_pixels_and_brings_in_black() -> None:
    images = torch.zeros(64, 1, 28, 28)
    images[:, :, 10:18, 10:18] = 255
    moved = distort(images, replace(STILL, shift=2))
    assert not torch.equal(moved[0], moved[1])
    assert (moved[:, :, 12:16, 12:16] > 254).all()
    outside = moved.clone()
    outside[:, :, 8:20, 8:20] = 0
    assert outside.max() < 1


def test_a_crop_moves_by_whole_pixels_and_brings_in_a_mirror_image() -> None:
    image = torch.rand(1, 3, 8, 8)
    larger = pad(image, (1, 1, 1, 1), mode="reflect")[0]
    wanted = [larger[:, y : y + 8, x : x + 8] for y in range(3) for x in range(3)]
    cropped = distort(image.expand(200, -1, -1, -1), replace(STILL, crop=1))
    found = [[torch.allclose(each, one, atol=1e-5) for one in wanted] for each in cropped]
    assert all(sum(row) == 1 for row in found)
    assert all(any(column) for column in zip(*found, strict=True))


def epochs_of(seed: int, samples: int = 40) -> list[Tensor]:
    """Which samples were mirrored (N,), in each of four epochs."""
    config = TrainConfig(epochs=4, seed=seed, augmentation=ALTERNATING)
    augment = Augmenter(config, samples, torch.device("cpu"))
    images, index = torch.arange(4.0).expand(samples, 1, 4, 4), torch.arange(samples)
    return [augment(images, index, epoch)[:, 0, 0, 0] > 2 for epoch in range(1, 5)]


def test_images_that_alternate_are_mirrored_in_every_other_epoch() -> None:
    first, second, third, fourth = epochs_of(seed=0)
    assert 5 < first.sum() < 35
    assert torch.equal(second, ~first)
    assert torch.equal(third, first)
    assert torch.equal(fourth, second)


def test_who_is_mirrored_first_depends_on_the_seed_alone() -> None:
    torch.manual_seed(1)
    one = epochs_of(seed=0)[0]
    torch.manual_seed(2)
    assert torch.equal(epochs_of(seed=0)[0], one)
    assert not torch.equal(epochs_of(seed=3)[0], one)


def test_images_grow_to_their_whole_size_over_three_quarters_of_the_training() -> None:
    sides = [shrink(torch.zeros(1, 3, 32, 32), 0.625, epoch / 8).shape[-1] for epoch in range(8)]
    assert sides == [20, 20, 24, 24, 28, 28, 32, 32]


def test_a_small_image_is_as_bright_as_the_large_one() -> None:
    images = torch.rand(4, 3, 32, 32)
    small = shrink(images, 0.5, 0.0)
    assert small.shape == (4, 3, 16, 16)
    assert small.mean().item() == pytest.approx(images.mean().item(), abs=0.01)
