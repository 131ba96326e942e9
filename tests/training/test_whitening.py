"""A layer that is computed from the training images, and not learnt."""

import pytest
import torch
from torch.nn.functional import unfold

from tests.training.samples import narrow, slice_of, train_briefly
from tests.training.tiny import tiny
from training.models.whitening import Whitening
from training.normalise import Normalise


def alike() -> torch.Tensor:
    """Images whose neighbouring pixels are nearly the same."""
    torch.manual_seed(0)
    coarse = torch.randn(200, 3, 4, 4).repeat_interleave(2, 2).repeat_interleave(2, 3)
    return coarse + 0.3 * torch.randn(200, 3, 8, 8)


def test_whitened_patches_have_nothing_in_common() -> None:
    layer = Whitening(3, kernel=2)
    layer.fit(images := alike())
    patches = unfold(images, 2).transpose(1, 2).flatten(0, 1)
    before = patches.T @ patches / len(patches)
    whitened = layer(images).movedim(1, -1).flatten(0, 2)[:, :12]
    after = whitened.T @ whitened / len(whitened)
    assert (before - before.diag().diag()).abs().max() > 0.3
    torch.testing.assert_close(after, torch.eye(12), rtol=0, atol=0.02)


def test_each_direction_is_there_with_its_negative() -> None:
    layer = Whitening(1, kernel=2)
    layer.fit(alike()[:, :1])
    there, back = layer(torch.randn(2, 1, 5, 5)).chunk(2, dim=1)
    assert there.shape == (2, 4, 4, 4)
    torch.testing.assert_close(there, -back)


def test_training_leaves_the_kernels_as_they_were_computed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    narrow(monkeypatch)
    dataset = slice_of(tiny("cifar10"))
    _, model = train_briefly("cifar10-resnet", dataset)
    computed = Whitening(3, kernel=2)
    computed.fit(Normalise(dataset.normalisation)(torch.tensor(dataset.train_x)))
    assert torch.equal(model.state_dict()["features.0.weight"], computed.weight)
