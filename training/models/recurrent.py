"""A recurrent net that reads a text token by token, forth or both ways.

What it says of a text does not depend on the padding behind it: the way forth meets the padding
last, the way back begins at the last token, and the states over padding are left out of what the
head sees, the mean and the largest value of each unit over the text.
"""

import torch
from torch import Tensor, nn

from training.tokens import PADDING, Embedding, lengths

CELLS = {"rnn": nn.RNN, "gru": nn.GRU, "lstm": nn.LSTM}
LOWEST = -1.0  # no state of these cells is below it


class Recurrent(nn.Module):
    def __init__(
        self,
        cell: str,
        vocabulary: int,
        embedding: int,
        hidden: int,
        classes: int,
        dropout: float,
        directions: int = 1,
        word_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if cell not in CELLS or directions not in (1, 2):
            raise ValueError(f"{cell} in {directions} directions; cells are {', '.join(CELLS)}")
        self.embedding = Embedding(vocabulary, embedding)
        self.words = nn.Dropout1d(word_dropout)  # whole tokens, that no word alone decides
        self.dropout = nn.Dropout(dropout)
        self.readers = nn.ModuleList(
            CELLS[cell](embedding, hidden, batch_first=True) for _ in range(directions)
        )
        self.head = nn.Linear(2 * directions * hidden, classes)

    def forward(self, ids: Tensor) -> Tensor:
        texts = (ids, _reversed(ids))  # (B, T) each
        pooled: list[Tensor] = []
        for reader, text in zip(self.readers, texts, strict=False):
            x = self.dropout(self.words(self.embedding(text)))  # (B, T, E)
            states, _ = reader(x)  # (B, T, H)
            pooled += _pool(states, text != PADDING)
        logits: Tensor = self.head(self.dropout(torch.cat(pooled, dim=1)))
        return logits


def _reversed(ids: Tensor) -> Tensor:
    """Each text from its last token to its first, the padding still behind it."""
    places = torch.arange(ids.shape[1], device=ids.device)
    source = lengths(ids)[:, None] - 1 - places  # (B, T)
    return ids.gather(1, source.clamp(min=0)).where(source >= 0, PADDING)


def _pool(states: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
    """The mean and the largest (B, H) over the tokens that are real (B, T)."""
    real = real[:, :, None]
    mean = (states * real).sum(dim=1) / real.sum(dim=1).clamp(min=1)
    return mean, states.masked_fill(~real, LOWEST).amax(dim=1)
