"""Lookahead: every few steps the weights go back to a slow average of themselves, which lets them
learn at a higher rate than they could settle at."""

import torch
from torch import nn

MEMORY = 0.95  # of the average, for each step


class Lookahead:
    """The average of an epoch, from the weights at its start. Pull at the epoch's end, and these
    weights are all that the next epoch has to know of it."""

    def __init__(self, model: nn.Module) -> None:
        self._weights = [p for p in model.parameters() if p.requires_grad]
        self._slow = [p.detach().clone() for p in self._weights]

    @torch.no_grad()
    def pull(self, steps: int, share: float) -> None:
        """`steps` behind the last one, where `share` of the training is over: at first there is
        much to learn and little worth remembering."""
        memory = MEMORY**steps * share**3
        for slow, weight in zip(self._slow, self._weights, strict=True):
            slow.lerp_(weight, 1 - memory)
            weight.copy_(slow)
