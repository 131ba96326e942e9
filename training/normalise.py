"""The step from raw input to what a network is trained on."""

import torch
from torch import Tensor, nn

from training.spec import Normalisation


class Normalise(nn.Module):
    """Raw input of any datatype to normalised FP32: x' = (x * scale - mean) / std."""

    mean: Tensor
    std: Tensor

    def __init__(self, normalisation: Normalisation) -> None:
        super().__init__()
        self.scale = normalisation.scale
        self._broadcast = normalisation.broadcast
        self.register_buffer("mean", torch.tensor(normalisation.mean))  # (C,) or (1,)
        self.register_buffer("std", torch.tensor(normalisation.std))

    def forward(self, x: Tensor) -> Tensor:
        shape = self._broadcast(x.ndim)
        mean, std = self.mean.view(shape), self.std.view(shape)
        return (x.float() * self.scale - mean) / std
