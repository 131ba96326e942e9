"""An LSTM reads the past of several series; a linear layer writes all of their future at once.

Both count from the last hour that is known: series drift, and a net that has to name the level
itself gets it wrong a year later.
"""

from torch import Tensor, nn


class LstmForecast(nn.Module):
    def __init__(self, variables: int, hidden: int, horizon: int, dropout: float) -> None:
        super().__init__()
        self.lstm = nn.LSTM(variables, hidden, batch_first=True)
        self.head = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(hidden, horizon * variables),
            nn.Unflatten(1, (horizon, variables)),
        )

    def forward(self, x: Tensor) -> Tensor:
        last = x[:, -1:]  # (B, 1, V)
        states, _ = self.lstm(x - last)  # (B, T, hidden)
        future: Tensor = self.head(states[:, -1]) + last  # (B, horizon, V)
        return future
