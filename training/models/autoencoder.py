"""A deep autoencoder for 28x28 images: fully connected down to a few numbers, and back."""

from torch import Tensor, nn

from training import activations


class Autoencoder(nn.Module):
    """Outputs are logits of the pixels' brightness."""

    def __init__(self, side: int, hidden: int, latent: int, activation: str = "relu") -> None:
        super().__init__()
        pixels, narrow = side * side, hidden // 4
        self.encoder = nn.Sequential(
            nn.Flatten(),  # (B, 1, side, side) -> (B, pixels)
            *_block(pixels, hidden, activation),
            *_block(hidden, narrow, activation),
            nn.Linear(narrow, latent),
        )
        self.decoder = nn.Sequential(
            *_block(latent, narrow, activation),
            *_block(narrow, hidden, activation),
            nn.Linear(hidden, pixels),
            nn.Unflatten(1, (1, side, side)),
        )

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.decoder(self.encoder(x))  # (B, 1, side, side)
        return logits


def _block(inputs: int, outputs: int, activation: str) -> list[nn.Module]:
    units = outputs * activations.pieces(activation)
    return [
        nn.Linear(inputs, units, bias=False),  # the norm that follows has the bias
        nn.BatchNorm1d(units),
        activations.make(activation),
    ]
