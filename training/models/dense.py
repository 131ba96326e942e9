"""One hidden layer, nothing else: the net that fits on a blackboard."""

from torch import Tensor, nn

from training import activations


class Dense(nn.Module):
    def __init__(self, inputs: int, hidden: int, outputs: int, activation: str = "sigmoid") -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Flatten(),  # (B, *) -> (B, inputs)
            nn.Linear(inputs, hidden * activations.pieces(activation)),
            activations.make(activation),  # (B, hidden)
            nn.Linear(hidden, outputs),
        )

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.layers(x)  # (B, outputs)
        return logits
