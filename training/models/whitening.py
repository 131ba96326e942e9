"""A first layer that is computed and not learnt: it takes away what neighbouring pixels of all
images have in common, so that what follows learns from the first step on what tells them apart."""

import torch
from torch import Tensor, nn
from torch.nn.functional import unfold

from training.data.dataset import Dataset
from training.normalise import Normalise

SAMPLES = 2_000  # images of which the covariance is taken
EPSILON = 5e-4  # beside the variances, lest the faintest directions become mere noise


class Whitening(nn.Conv2d):
    """(B, C, H, W) to (B, 2 * C * K * K, H - K + 1, W - K + 1): each patch in the eigenvectors of
    the patches' covariance, at variance 1, and its negative. Its kernels are never trained."""

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__(channels, 2 * channels * kernel * kernel, kernel, bias=False)
        self.weight.requires_grad_(False)

    @torch.no_grad()
    def fit(self, images: Tensor) -> None:
        """To normalised images, (N, C, H, W)."""
        kernel = self.kernel_size[0]
        patches = unfold(images, kernel).transpose(1, 2).flatten(0, 1)  # (patches, C * K * K)
        values, vectors = torch.linalg.eigh(patches.T @ patches / len(patches))
        kernels = (vectors / (values + EPSILON).sqrt()).T.unflatten(1, (-1, kernel, kernel))
        self.weight.copy_(torch.cat((kernels, -kernels)))


def fit(model: nn.Module, dataset: Dataset) -> None:
    """All such layers of the model, to its training images."""
    for layer in model.modules():
        if isinstance(layer, Whitening):
            images = torch.tensor(dataset.train_x[:SAMPLES])
            layer.fit(Normalise(dataset.normalisation)(images))
