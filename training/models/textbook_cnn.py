"""The convolutional net of every textbook: three 3x3 convolutions of W, 2W and 2W channels with
pooling in between, and one hidden layer. Batch norm is the one thing that the textbooks lack."""

from torch import Tensor, nn

from training import activations
from training.models.cnn import stage


class TextbookCnn(nn.Module):
    """For square images of `side` pixels; without padding, so that a convolution takes one pixel
    off each border. `last_pool` pools after the third convolution as well."""

    def __init__(
        self,
        channels: int,
        side: int,
        width: int,
        hidden: int,
        outputs: int,
        dropout: float = 0.0,
        last_pool: bool = False,
        activation: str = "relu",
    ) -> None:
        super().__init__()
        self.features = nn.Sequential(  # (B, channels, S, S)
            *stage(channels, width, activation, kernel=3, pool=2),  # (B, W, S', S')
            *stage(width, 2 * width, activation, kernel=3, pool=2),  # (B, 2W, S", S")
            *stage(2 * width, 2 * width, activation, kernel=3, pool=1 + last_pool),
        )
        side = ((side - 2) // 2 - 2) // 2 - 2
        side = side // 2 if last_pool else side
        units = hidden * activations.pieces(activation)
        self.head = nn.Sequential(
            nn.Flatten(),
            nn.Linear(2 * width * side * side, units, bias=False),
            nn.BatchNorm1d(units),
            activations.make(activation),  # (B, hidden)
            nn.Dropout(dropout),
            nn.Linear(hidden, outputs),  # (B, outputs)
        )

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(x))
        return logits
