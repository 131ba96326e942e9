"""Texts as a network takes them: numbers of tokens (B, T), each text padded on the right."""

import json

import torch
from torch import Tensor, nn

PADDING, UNKNOWN = 0, 1  # of every tokeniser
START, END = 2, 3  # of those of translations


class Trim(nn.Module):
    """Raw numbers (B, T) without the columns that are padding in every text; one stays at least."""

    def forward(self, ids: Tensor) -> Tensor:
        return trimmed(ids)


class Embedding(nn.Embedding):
    """(B, T) to (B, T, width). What is no number of the vocabulary counts as unknown: a client may
    send any, and the requests that share its batch must not fail with it."""

    def __init__(self, vocabulary: int, width: int) -> None:
        super().__init__(vocabulary, width, padding_idx=PADDING)
        with torch.no_grad():
            self.weight *= width**-0.5

    def forward(self, ids: Tensor) -> Tensor:
        known = (ids >= 0) & (ids < self.num_embeddings)
        return super().forward(torch.where(known, ids, UNKNOWN))


def trimmed(ids: Tensor) -> Tensor:
    """Without the columns of (B, T) that are padding in every text; one stays at least."""
    return ids[:, : max(1, int(lengths(ids).max()))]


def longest(tokenizer: str) -> int:
    """To how many tokens a `tokenizer.json` cuts texts off."""
    return int(json.loads(tokenizer)["truncation"]["max_length"])


def lengths(ids: Tensor) -> Tensor:
    """Up to and with the last token of each text: (B,)."""
    places = torch.arange(1, ids.shape[1] + 1, device=ids.device)
    return (places * (ids != PADDING)).amax(dim=1)
