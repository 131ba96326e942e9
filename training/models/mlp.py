"""A multilayer perceptron: fully connected layers only."""

from itertools import pairwise

from torch import Tensor, nn

from training import activations


class Mlp(nn.Module):
    def __init__(
        self,
        inputs: int,
        hidden: int,
        layers: int,
        classes: int,
        dropout: float,
        activation: str = "relu",
    ) -> None:
        super().__init__()
        widths = [inputs] + [hidden] * layers
        self.body = nn.Sequential(
            nn.Flatten(),  # (B, *) -> (B, inputs)
            *(_block(narrow, wide, dropout, activation) for narrow, wide in pairwise(widths)),
        )
        self.head = nn.Linear(widths[-1], classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(x)  # (B, hidden)
        logits: Tensor = self.head(x)  # (B, classes)
        return logits


def _block(inputs: int, outputs: int, dropout: float, activation: str) -> nn.Sequential:
    units = outputs * activations.pieces(activation)
    return nn.Sequential(
        nn.Linear(inputs, units, bias=False),  # the norm that follows has the bias
        nn.BatchNorm1d(units),
        activations.make(activation),
        nn.Dropout(dropout),
    )
