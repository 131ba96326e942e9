"""An LSTM reads the past of several series; a linear layer writes all of their future at once.

The net reads differences to the last hour that is known, and writes differences to the last day:
series drift, and a net that has to name the level itself gets it wrong a year later.
"""

from torch import Tensor, nn


class LstmForecast(nn.Module):
    def __init__(self, variables: int, hidden: int, horizon: int, dropout: float) -> None:
        super().__init__()
        self.horizon = horizon
        self.lstm = nn.LSTM(variables, hidden, batch_first=True)
        self.head = nn.Sequential(
            nn.Dropout(dropout),
            nn.Linear(hidden, horizon * variables),
            nn.Unflatten(1, (horizon, variables)),
        )

    def forward(self, x: Tensor) -> Tensor:
        states, _ = self.lstm(x - x[:, -1:])  # (B, T, hidden)
        future: Tensor = x[:, -self.horizon :] + self.head(states[:, -1])  # (B, horizon, V)
        return future
