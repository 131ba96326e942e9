"""A small residual net for 32x32 images, of the kind that is trained in minutes: few layers, wide
ones, and pooling before the norms."""

from torch import Tensor, nn

from training.models.cnn import stage

HEAT = 0.125  # by which logits are scaled: without it the first steps of a high rate are too long


class Residual(nn.Module):
    def __init__(self, channels: int, width: int, classes: int, activation: str = "relu") -> None:
        super().__init__()

        def pooled(inputs: int, outputs: int) -> list[nn.Module]:
            return stage(inputs, outputs, activation, kernel=3, padding=1, pool=2)

        self.features = nn.Sequential(  # (B, channels, 32, 32)
            *stage(channels, width, activation, kernel=3, padding=1),  # (B, W, 32, 32)
            *pooled(width, 2 * width),  # (B, 2W, 16, 16)
            Shortcut(2 * width, activation),
            *pooled(2 * width, 4 * width),  # (B, 4W, 8, 8)
            *pooled(4 * width, 4 * width),  # (B, 4W, 4, 4)
            Shortcut(4 * width, activation),
        )
        self.head = nn.Linear(4 * width, classes, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        largest = self.features(x).amax(dim=(2, 3))  # (B, 4W)
        logits: Tensor = self.head(largest) * HEAT  # (B, classes)
        return logits


class Shortcut(nn.Module):
    """Two convolutions, and what came into them beside."""

    def __init__(self, width: int, activation: str) -> None:
        super().__init__()
        self.way = nn.Sequential(
            *stage(width, width, activation, kernel=3, padding=1),
            *stage(width, width, activation, kernel=3, padding=1),
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.way(x)
        return y
