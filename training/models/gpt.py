"""A decoder-only Transformer over characters: what comes next, at every place of a text.

Norms come first; positions are rotary, so that what two places say to each other depends on how far
apart they are and not on where they stand; the embedding is also the head, transposed.
"""

import math

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, scaled_dot_product_attention

SLOWEST = 10_000.0  # of the waves that turn queries and keys, in places per radian
DEVIATION = 0.02  # of the weights as they begin


class Gpt(nn.Module):
    """Numbers of characters (B, T) to logits of the next one (B, T, vocabulary).

    A place attends to itself and to the `context - 1` places before it, so that a text may be
    longer than the context."""

    def __init__(
        self, vocabulary: int, context: int, width: int, heads: int, layers: int, dropout: float
    ) -> None:
        super().__init__()
        if width % heads or (width // heads) % 2:
            raise ValueError(f"a width of {width} is no even multiple of {heads} heads")
        self.context = context
        self.heads = heads
        self.embedding = nn.Embedding(vocabulary, width)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(Block(width, heads, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.apply(_initialise)
        # What is added to the stream is scaled down, lest the sum grow with the number of layers.
        for name, weights in self.named_parameters():
            if name.endswith(("projection.weight", "contract.weight")):
                nn.init.normal_(weights, std=DEVIATION / math.sqrt(2 * layers))

    def forward(self, ids: Tensor) -> Tensor:
        turns = rotations(torch.arange(ids.shape[1], device=ids.device), self.head_width)
        attended = self._window(ids)
        x = self.dropout(self.embedding(ids))  # (B, T, C)
        for block in self.blocks:
            x = block(x, turns, attended)
        return self.logits(x)

    def logits(self, x: Tensor) -> Tensor:
        return linear(self.norm(x), self.embedding.weight)

    @property
    def head_width(self) -> int:
        return self.embedding.embedding_dim // self.heads

    def _window(self, ids: Tensor) -> Tensor | None:
        """Which places (T, T) each one attends to; None where that is all before it, which is
        faster."""
        length = ids.shape[1]
        if length <= self.context:
            return None
        places = torch.arange(length, device=ids.device)
        distance = places[:, None] - places
        return (distance >= 0) & (distance < self.context)


class Block(nn.Module):
    """(B, T, C) to the same."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.dropout = nn.Dropout(dropout)
        self.before_attention = nn.LayerNorm(width)
        self.queries_keys_values = nn.Linear(width, 3 * width)
        self.projection = nn.Linear(width, width)
        self.before_feed_forward = nn.LayerNorm(width)
        self.expand = nn.Linear(width, 4 * width)
        self.contract = nn.Linear(4 * width, width)

    def forward(self, x: Tensor, turns: Tensor, attended: Tensor | None) -> Tensor:
        queries, keys, values = self.project(x, turns)
        mixed = scaled_dot_product_attention(
            queries, keys, values, attended, is_causal=attended is None
        )
        return self.add(x, mixed)

    def project(self, x: Tensor, turns: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Queries, keys and values, (B, heads, T, C / heads) each; the first two are turned."""
        packed = self.queries_keys_values(self.before_attention(x))
        queries, keys, values = (
            part.unflatten(2, (self.heads, -1)).transpose(1, 2) for part in packed.chunk(3, dim=2)
        )
        return rotate(queries, turns), rotate(keys, turns), values

    def add(self, x: Tensor, mixed: Tensor) -> Tensor:
        """The block's result, of its input and of what the heads have mixed."""
        x = x + self.dropout(self.projection(mixed.transpose(1, 2).flatten(2)))
        hidden = nn.functional.gelu(self.expand(self.before_feed_forward(x)))
        y: Tensor = x + self.dropout(self.contract(hidden))
        return y


def rotations(places: Tensor, width: int) -> Tensor:
    """Cosines and sines (2, *places, width / 2) of the angles by which places turn a head."""
    steps = torch.arange(0, width, 2, device=places.device)
    angles = places[..., None] * torch.exp(steps * (-math.log(SLOWEST) / width))
    return torch.stack((angles.cos(), angles.sin()))


def rotate(x: Tensor, turns: Tensor) -> Tensor:
    """Pairs the first half of the last dimension with the second, and turns each pair."""
    cosines, sines = turns.unbind()
    first, second = x.chunk(2, dim=-1)
    return torch.cat((first * cosines - second * sines, first * sines + second * cosines), dim=-1)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, (nn.Linear, nn.Embedding)):
        nn.init.normal_(module.weight, std=DEVIATION)
    if isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)
