"""A net that looks at each image and at its mirror image."""

import torch

from training.models.cnn import Cnn


def small(mirror: bool) -> Cnn:
    torch.manual_seed(0)
    return Cnn(channels=1, width=4, hidden=8, classes=3, mirror=mirror)


def test_an_image_and_its_mirror_image_get_one_answer() -> None:
    x = torch.randn(5, 1, 28, 28)
    plain, net = small(mirror=False).eval(), small(mirror=True).eval()
    assert not torch.allclose(plain(x), plain(x.flip(-1)))
    torch.testing.assert_close(net(x), net(x.flip(-1)))
    torch.testing.assert_close(net(x), (plain(x) + plain(x.flip(-1))) / 2)


def test_training_looks_at_each_image_once() -> None:
    x = torch.randn(5, 1, 28, 28)
    assert torch.equal(small(mirror=True).train()(x), small(mirror=False).train()(x))
