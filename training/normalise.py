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
        self.register_buffer("mean", torch.tensor(normalisation.mean))  # (C,) or (1,)
        self.register_buffer("std", torch.tensor(normalisation.std))

    def forward(self, x: Tensor) -> Tensor:
        per_channel = (-1,) + (1,) * (x.ndim - 2)  # beside (B, C, ...)
        mean, std = self.mean.view(per_channel), self.std.view(per_channel)
        return (x.float() * self.scale - mean) / std
