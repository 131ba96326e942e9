"""A small residual net for 32x32 images that learns in few epochs: whitened patches first, pooling
before the norms, every convolution begun as the identity."""

from torch import Tensor, nn

from training import activations
from training.models.cnn import stage
from training.models.whitening import Whitening

HEAT = 1 / 9  # by which logits are scaled: without it the first steps of a high rate are too long
MEMORY = 0.4  # of the norms: how much the newest batch counts in the running statistics


class Residual(nn.Module):
    """`width` channels in the first block, `wide` ones in the second and the third."""

    def __init__(
        self, channels: int, width: int, wide: int, classes: int, activation: str = "gelu"
    ) -> None:
        super().__init__()
        whitening = Whitening(channels, kernel=2)
        self.features = nn.Sequential(  # (B, channels, 32, 32)
            whitening,  # (B, 24, 31, 31)
            activations.make(activation),
            *_block(whitening.out_channels // activations.pieces(activation), width, activation),
            *_block(width, wide, activation),  # (B, wide, 7, 7)
            *_block(wide, wide, activation),  # (B, wide, 3, 3)
        )
        self.head = nn.Linear(wide, classes, bias=False)
        for layer in self.features.modules():
            _begin(layer)

    def forward(self, x: Tensor) -> Tensor:
        largest = self.features(x).amax(dim=(2, 3))  # (B, wide)
        logits: Tensor = self.head(largest) * HEAT  # (B, classes)
        return logits


def _block(inputs: int, outputs: int, activation: str) -> list[nn.Module]:
    return [
        *stage(inputs, outputs, activation, kernel=3, padding=1, pool=2),
        Shortcut(outputs, activation),
    ]


class Shortcut(nn.Module):
    """A convolution, and what came into it beside."""

    def __init__(self, width: int, activation: str) -> None:
        super().__init__()
        self.way = nn.Sequential(*stage(width, width, activation, kernel=3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.way(x)
        return y


def _begin(layer: nn.Module) -> None:
    """Convolutions hand on what they are given; norms shift, and leave scaling to who follows."""
    if isinstance(layer, nn.BatchNorm2d):
        layer.momentum = MEMORY
        layer.weight.requires_grad_(False)
    elif isinstance(layer, nn.Conv2d) and not isinstance(layer, Whitening):
        nn.init.dirac_(layer.weight[: layer.in_channels].data)
