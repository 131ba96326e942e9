"""Activations by name, and how to put one behind a layer."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from training.errors import ConfigError

# Of maxout: how many linear pieces a unit takes the largest of.
PIECES = 2


class Maxout(nn.Module):
    """(B, PIECES * C, ...) to (B, C, ...): each output the largest of its pieces."""

    def forward(self, x: Tensor) -> Tensor:
        # Not by the number of rows: that would be a constant in the exported graph.
        pieces: Tensor = torch.unflatten(x, 1, (-1, PIECES))
        return pieces.amax(2)


_KINDS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "sigmoid": nn.Sigmoid,
    "tanh": nn.Tanh,
    "elu": nn.ELU,
    "gelu": nn.GELU,
    "maxout": Maxout,
}


def make(name: str) -> nn.Module:
    if name not in _KINDS:
        raise ConfigError(f"no activation is called {name!r}; there are: {', '.join(_KINDS)}")
    return _KINDS[name]()


def pieces(name: str) -> int:
    """How many values a layer must give for each one that passes the activation."""
    return PIECES if name == "maxout" else 1
