"""Which samples make a batch."""

from collections.abc import Iterator

import torch
from torch import Tensor

# Batches that are cut from samples sorted by length. Few enough that a batch stays a random one
# among its like, many enough that little of it is padding.
POOL = 32


def draw(
    samples: int, size: int, number: int, lengths: Tensor | None, device: torch.device
) -> Iterator[Tensor]:
    """The places of the samples (size,) of each of `number` batches, an epoch's in random order.

    With `lengths` (N,) a batch holds samples of like length, so that little of it is padding."""
    order = torch.randperm(samples, device=device)[: number * size]
    if lengths is None:
        yield from torch.split(order, size)
        return
    pools = torch.split(order, POOL * size)
    ordered = torch.cat([pool[lengths[pool].argsort(stable=True)] for pool in pools])
    batches = torch.split(ordered, size)
    for place in torch.randperm(len(batches)).tolist():
        yield batches[place]
