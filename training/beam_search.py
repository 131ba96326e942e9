"""The likeliest translations that a network can write, one text at a time.

A beam is the few best beginnings so far. Each step goes on from all that have no end yet, with each
token that may follow, and keeps the best of these and of those that have ended. Best is the largest
mean of the tokens' log-probabilities: their sum would favour the short. A beam of one is greedy.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from training.models.translator import Memory, Translator
from training.tokens import END, PADDING, START, UNKNOWN

NEVER_WRITTEN = (PADDING, UNKNOWN, START)


@dataclass(frozen=True, slots=True)
class Hypothesis:
    """`tokens` as far as they are written, END included where it is; `total` is the sum of their
    log-probabilities."""

    tokens: tuple[int, ...] = ()
    total: float = 0.0

    @property
    def ended(self) -> bool:
        return self.tokens[-1:] == (END,)

    @property
    def score(self) -> float:
        return self.total / len(self.tokens)


@torch.no_grad()
def translate(model: Translator, source: Tensor, beams: int, limit: int) -> Hypothesis:
    """The best translation of `source` (S,), of at most `limit` tokens; what has no end by then
    counts as it is."""
    memory = model.encode(source[None])
    beam = [Hypothesis()]
    for _ in range(limit):
        live = [each for each in beam if not each.ended]
        if not live:
            break
        grown = _grow(model, memory, live, beams)
        ended = [each for each in beam if each.ended]
        beam = sorted(ended + grown, key=lambda each: each.score, reverse=True)[:beams]
    return beam[0]


def _grow(
    model: Translator, memory: Memory, live: list[Hypothesis], beams: int
) -> list[Hypothesis]:
    """Each of `live`, which are of one length, with each of the `beams` tokens that suit it
    best."""
    written = torch.tensor([(START, *each.tokens) for each in live])
    beside = Memory(*(part.expand(len(live), *part.shape[1:]) for part in memory))
    chances = model.decode(written, beside)[:, -1].log_softmax(dim=1)  # (live, vocabulary)
    chances[:, NEVER_WRITTEN] = float("-inf")
    best, tokens = chances.topk(min(beams, chances.shape[1]), dim=1)
    return [
        Hypothesis((*each.tokens, token), each.total + chance)
        for each, some, those in zip(live, tokens.tolist(), best.tolist(), strict=True)
        for token, chance in zip(some, those, strict=True)
    ]
