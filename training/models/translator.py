"""A Transformer of two halves: an encoder reads a text in one language, and a decoder writes it in
another, token by token.

Both share one vocabulary and one embedding, which is the head as well, transposed. Norms come
first. What is said of a text does not depend on the padding behind it.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, scaled_dot_product_attention

from training.models.encoder import Block, feed_forward, positions
from training.tokens import PADDING, Embedding


class Memory(NamedTuple):
    """A text as the decoder reads it: `states` (B, S, C), of which `attended` (B, 1, 1, S) are
    tokens and no padding."""

    states: Tensor
    attended: Tensor


class Translator(nn.Module):
    """Numbers of tokens (B, S) and what is written of their translation (B, T), to the logits of
    the token that follows each of the latter (B, T, vocabulary)."""

    def __init__(
        self, vocabulary: int, width: int, heads: int, layers: int, dropout: float
    ) -> None:
        super().__init__()
        self.embedding = Embedding(vocabulary, width)
        self.dropout = nn.Dropout(dropout)
        self.encoder = nn.ModuleList(Block(width, heads, dropout) for _ in range(layers))
        self.encoded = nn.LayerNorm(width)
        self.decoder = nn.ModuleList(DecoderBlock(width, heads, dropout) for _ in range(layers))
        self.decoded = nn.LayerNorm(width)

    def forward(self, source: Tensor, target: Tensor) -> Tensor:
        return self.decode(target, self.encode(source))

    def encode(self, source: Tensor) -> Memory:
        # A text of no token at all attends to its first place: of nothing there is no mean.
        first = torch.arange(source.shape[1], device=source.device) == 0
        attended = ((source != PADDING) | first)[:, None, None]  # (B, 1, 1, S)
        x = self.embed(source)
        x = self.dropout(x + positions(x))
        for block in self.encoder:
            x = block(x, attended)
        return Memory(self.encoded(x), attended)

    def decode(self, target: Tensor, memory: Memory) -> Tensor:
        x = self.embed(target)
        x = self.dropout(x + positions(x))  # (B, T, C)
        for block in self.decoder:
            x = block(x, memory)
        return self.logits(x)

    def embed(self, ids: Tensor) -> Tensor:
        x: Tensor = self.embedding(ids)
        return x * math.sqrt(x.shape[-1])

    def logits(self, x: Tensor) -> Tensor:
        return linear(self.decoded(x), self.embedding.weight)


class DecoderBlock(nn.Module):
    """(B, T, C) to the same. A place attends to itself and to those before it, then to the text
    that is translated."""

    def __init__(self, width: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.dropout = nn.Dropout(dropout)
        self.before_itself = nn.LayerNorm(width)
        self.itself = Attention(width, heads)
        self.before_source = nn.LayerNorm(width)
        self.source = Attention(width, heads)
        self.feed_forward = feed_forward(width)

    def forward(self, x: Tensor, memory: Memory) -> Tensor:
        normed = self.before_itself(x)
        queries, (keys, values) = self.itself.queries(normed), self.itself.keys_values(normed)
        mixed = scaled_dot_product_attention(queries, keys, values, is_causal=True)
        x = x + self.dropout(self.itself.merge(mixed))
        queries = self.source.queries(self.before_source(x))
        keys, values = self.source.keys_values(memory.states)
        mixed = scaled_dot_product_attention(queries, keys, values, memory.attended)
        x = x + self.dropout(self.source.merge(mixed))
        y: Tensor = x + self.dropout(self.feed_forward(x))
        return y


class Attention(nn.Module):
    """What goes into several heads and out of them: (B, T, C) to (B, heads, T, C / heads), and
    back. Which places attend to which is left to who puts it together."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.to_queries = nn.Linear(width, width)
        self.to_keys_values = nn.Linear(width, 2 * width)
        self.projection = nn.Linear(width, width)

    def queries(self, x: Tensor) -> Tensor:
        return self._split(self.to_queries(x))

    def keys_values(self, x: Tensor) -> tuple[Tensor, Tensor]:
        keys, values = self.to_keys_values(x).chunk(2, dim=2)
        return self._split(keys), self._split(values)

    def merge(self, mixed: Tensor) -> Tensor:
        y: Tensor = self.projection(mixed.transpose(1, 2).flatten(2))
        return y

    def _split(self, x: Tensor) -> Tensor:
        return x.view(*x.shape[:2], self.heads, -1).transpose(1, 2)
