"""The least convolution can do: a few 2x2 kernels slide over the image, and only the strongest
answer of each counts, wherever it was. What is learnt at one place holds at all."""

from torch import Tensor, nn

from training import activations


class StrokeCnn(nn.Module):
    def __init__(self, kernels: int, outputs: int, activation: str = "relu") -> None:
        super().__init__()
        self.features = nn.Sequential(
            # Padded, so that a kernel also meets strokes along the border from their outside.
            nn.Conv2d(1, kernels * activations.pieces(activation), 2, padding=1),
            activations.make(activation),  # (B, kernels, 5, 5)
            nn.AdaptiveMaxPool2d(1),
            nn.Flatten(),  # (B, kernels)
        )
        self.head = nn.Linear(kernels, outputs)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.head(self.features(x))  # (B, outputs)
        return logits
