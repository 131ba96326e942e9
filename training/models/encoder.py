"""The encoder of a Transformer over the tokens of a text, and a head over their mean.

What it says of a text does not depend on the padding behind it: no token attends to padding, a
convolution meets zeros there as beyond the end, and the mean is taken over the tokens alone.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from training.tokens import PADDING, Embedding

SLOWEST = 10_000.0  # of the waves that tell positions apart, in tokens per radian


class Encoder(nn.Module):
    def __init__(
        self,
        vocabulary: int,
        width: int,
        heads: int,
        layers: int,
        classes: int,
        dropout: float,
        word_dropout: float = 0.0,
        kernel: int = 0,
    ) -> None:
        """`kernel`: tokens side by side that a convolution reads as one before any attention, that
        "not" and "good" are met together; odd, or 0 for none."""
        super().__init__()
        if kernel and kernel % 2 == 0:
            raise ValueError(f"a kernel of {kernel} tokens has no token in its middle")
        self.embedding = Embedding(vocabulary, width)
        self.words = nn.Dropout1d(word_dropout)  # whole tokens, that no word alone decides
        self.phrases = nn.Conv1d(width, width, kernel, padding=kernel // 2) if kernel else None
        self.blocks = nn.ModuleList(Block(width, heads, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Sequential(nn.Dropout(dropout), nn.Linear(width, classes))

    def forward(self, ids: Tensor) -> Tensor:
        real = ids != PADDING  # (B, T)
        x = self.embedding(ids)
        x = self.words(x * math.sqrt(x.shape[2]))  # (B, T, C)
        if self.phrases is not None:
            x = x + self.phrases((x * real[:, :, None]).mT).relu().mT
        x = x + positions(x)
        # A text of no token at all attends to its first place: of nothing there is no mean.
        first = torch.arange(ids.shape[1], device=ids.device) == 0
        attended = (real | first)[:, None, None]  # (B, 1, 1, T)
        for block in self.blocks:
            x = block(x, attended)
        real = real[:, :, None]
        mean = (self.norm(x) * real).sum(dim=1) / real.sum(dim=1).clamp(min=1)
        logits: Tensor = self.head(mean)
        return logits


class Block(nn.Module):
    """(B, T, C) to the same; norms come first."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(f"a width of {width} is no multiple of {heads} heads")
        self.heads = heads
        self.dropout = nn.Dropout(dropout)
        self.before_attention = nn.LayerNorm(width)
        self.queries_keys_values = nn.Linear(width, 3 * width)
        self.projection = nn.Linear(width, width)
        self.feed_forward = feed_forward(width)

    def forward(self, x: Tensor, attended: Tensor) -> Tensor:
        packed = self.queries_keys_values(self.before_attention(x))
        queries, keys, values = (
            part.unflatten(2, (self.heads, -1)).transpose(1, 2)  # (B, heads, T, C / heads)
            for part in packed.chunk(3, dim=2)
        )
        mixed = scaled_dot_product_attention(queries, keys, values, attended)
        x = x + self.dropout(self.projection(mixed.transpose(1, 2).flatten(2)))
        y: Tensor = x + self.dropout(self.feed_forward(x))
        return y


def feed_forward(width: int) -> nn.Sequential:
    """What a block does with each place by itself, (B, T, C) to the same; the norm comes first."""
    return nn.Sequential(
        nn.LayerNorm(width),
        nn.Linear(width, 4 * width),
        nn.GELU(),
        nn.Linear(4 * width, width),
    )


def positions(x: Tensor) -> Tensor:
    """Sines and cosines (T, C) by which places are told apart, however many there are."""
    _, length, width = x.shape
    places = torch.arange(length, device=x.device)[:, None]
    steps = torch.arange(0, width, 2, device=x.device)
    angles = places * torch.exp(steps * (-math.log(SLOWEST) / width))
    return torch.cat((angles.sin(), angles.cos()), dim=1)
