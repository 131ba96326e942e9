"""A small convolutional net for 28x28 images: four convolutions, two poolings, one hidden layer."""

import torch
from torch import Tensor, nn

from training import activations


class Cnn(nn.Module):
    """With `mirror` it looks at each image twice in eval mode, the second time with left and right
    exchanged, and answers with the mean of both logits."""

    def __init__(
        self,
        channels: int,
        width: int,
        hidden: int,
        classes: int,
        activation: str = "relu",
        mirror: bool = False,
    ) -> None:
        super().__init__()
        self.mirror = mirror
        self.features = nn.Sequential(  # (B, channels, 28, 28)
            *stage(channels, width, activation, kernel=5, pool=2),  # (B, W, 12, 12)
            *stage(width, 2 * width, activation, kernel=3),  # (B, 2W, 10, 10)
            *stage(2 * width, 4 * width, activation, kernel=3, padding=1, pool=2),  # (B, 4W, 5, 5)
            *stage(4 * width, 4 * width, activation, kernel=3, padding=1),  # (B, 4W, 5, 5)
        )
        units = hidden * activations.pieces(activation)
        self.head = nn.Sequential(
            nn.Flatten(),  # (B, 4W * 25)
            nn.Linear(4 * width * 25, units, bias=False),
            nn.BatchNorm1d(units),
            activations.make(activation),  # (B, hidden)
            nn.Linear(hidden, classes),  # (B, classes)
        )

    def forward(self, x: Tensor) -> Tensor:
        if self.mirror and not self.training:
            # In one batch: the weights are read once, and the exported graph has each layer once.
            both = self._logits(torch.cat((x, x.flip(-1))))  # (2B, classes)
            return both.view(2, x.shape[0], -1).mean(0)  # (B, classes)
        return self._logits(x)

    def _logits(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(x))  # (B, classes)
        return logits


def stage(
    inputs: int, outputs: int, activation: str, *, kernel: int, padding: int = 0, pool: int = 1
) -> list[nn.Module]:
    """Convolution, norm and activation; pooling comes first, as the rest is then the cheaper."""
    units = outputs * activations.pieces(activation)
    convolution = nn.Conv2d(inputs, units, kernel, padding=padding, bias=False)
    pooling = [nn.MaxPool2d(pool)] if pool > 1 else []
    return [convolution, *pooling, nn.BatchNorm2d(units), activations.make(activation)]
