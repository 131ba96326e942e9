"""What a search may choose: the size and shape of each architecture, and how it is trained.

To let another architecture be searched, add its line to SPACES.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
)

from training.catalog import Recipe
from training.config import ACTIVATIONS, OPTIMIZERS, TrainConfig, changed
from training.errors import ConfigError

Value: TypeAlias = int | float | str
Space: TypeAlias = Mapping[str, BaseDistribution]


@dataclass(frozen=True, slots=True)
class Choice:
    """One of these, or what the recipe has."""

    values: tuple[Value, ...]

    def distribution(self, own: Value) -> BaseDistribution:
        return CategoricalDistribution(tuple(dict.fromkeys((*self.values, own))))


@dataclass(frozen=True, slots=True)
class Range:
    """Anything in between; widened to what the recipe has."""

    low: float
    high: float
    log: bool = False

    def distribution(self, own: Value) -> BaseDistribution:
        low, high = min(self.low, float(own)), max(self.high, float(own))
        return FloatDistribution(low, high, log=self.log)


_ACTIVATION = Choice(ACTIVATIONS)
_DROPOUT = Range(0.0, 0.5)

# By architecture: what is chosen of its configuration.
SPACES: Mapping[str, Mapping[str, Choice | Range]] = {
    "autoencoder": {"hidden": Choice((256, 512, 1024)), "activation": _ACTIVATION},
    "cnn": {
        "width": Choice((8, 16, 24, 32)), "hidden": Choice((64, 128, 256)),
        "activation": _ACTIVATION,
    },
    "dense": {"hidden": Choice((4, 8, 16, 32, 64)), "activation": _ACTIVATION},
    "encoder": {
        "width": Choice((32, 48, 64, 96)), "heads": Choice((2, 4)), "layers": Choice((1, 2)),
        "dropout": _DROPOUT, "word_dropout": Range(0.0, 0.3), "kernel": Choice((0, 3, 5)),
    },
    "lstm-forecast": {"hidden": Choice((32, 64, 128)), "dropout": _DROPOUT},
    "mlp": {
        "layers": Choice((1, 2, 3)), "hidden": Choice((32, 64, 128, 256, 512)),
        "dropout": _DROPOUT, "activation": _ACTIVATION,
    },
    "recurrent": {
        "cell": Choice(("rnn", "gru", "lstm")), "embedding": Choice((32, 64, 96)),
        "hidden": Choice((64, 128, 192)), "directions": Choice((1, 2)), "dropout": _DROPOUT,
        "word_dropout": Range(0.0, 0.3),
    },
    "residual": {
        "width": Choice((16, 32, 48, 64)), "wide": Choice((32, 64, 96, 128, 192)),
        "activation": _ACTIVATION,
    },
    "stroke-cnn": {"kernels": Choice((2, 4, 8, 16)), "activation": _ACTIVATION},
    "textbook-cnn": {
        "width": Choice((16, 24, 32, 48)), "hidden": Choice((32, 64, 128)),
        "activation": _ACTIVATION,
    },
}  # fmt: skip

# The same for all; the learning rate as a multiple of what suits the optimiser.
OPTIMIZER, RATE = "optimizer", "lr"
_OPTIMIZER = Choice(("momentum", "nesterov", "rmsprop", "adam", "adamw"))
_RATE = Range(0.1, 3.0, log=True)


@dataclass(frozen=True, slots=True)
class Candidate:
    """One point of a space, as training takes it."""

    architecture: dict[str, Value]
    config: TrainConfig


def space(recipe: Recipe) -> Space:
    """Raises ConfigError for an architecture of which no space is declared."""
    declared = SPACES.get(recipe.architecture)
    if declared is None:
        raise ConfigError(
            f"the architecture {recipe.architecture} has no space to search; there are spaces for "
            f"{', '.join(SPACES)}"
        )
    own = own_point(recipe)
    dimensions = {**declared, OPTIMIZER: _OPTIMIZER, RATE: _RATE}
    return {name: each.distribution(own[name]) for name, each in dimensions.items()}


def own_point(recipe: Recipe) -> dict[str, Value]:
    """The recipe itself, as a point of its space."""
    point = {name: recipe.architecture_config[name] for name in SPACES[recipe.architecture]}
    suits = OPTIMIZERS[recipe.config.optimizer]
    return {**point, OPTIMIZER: recipe.config.optimizer, RATE: recipe.config.lr / suits}


def candidate(recipe: Recipe, config: TrainConfig, point: Mapping[str, Any]) -> Candidate:
    """What to train at a point; `config` is the recipe's with what the user has changed."""
    optimizer = point[OPTIMIZER]
    chosen = {name: value for name, value in point.items() if name not in (OPTIMIZER, RATE)}
    return Candidate(
        {**recipe.architecture_config, **chosen},
        changed(config, optimizer=optimizer, lr=point[RATE] * OPTIMIZERS[optimizer]),
    )


def shape(point: Mapping[str, Any]) -> dict[str, Any]:
    """What of a point decides how fast its network answers: not how it was trained."""
    return {
        name: value
        for name, value in point.items()
        if name not in (OPTIMIZER, RATE) and not isinstance(value, float)
    }


def told(point: Mapping[str, Any]) -> str:
    """A point in few words."""
    return " ".join(_told(name, value) for name, value in point.items())


def _told(name: str, value: Any) -> str:
    if name == RATE:
        return f"lr x{value:.2g}"
    return f"{name} {value:.2g}" if isinstance(value, float) else f"{name} {value}"


def listed(space: Space) -> dict[str, list[Any]]:
    """What JSON can hold of a space, to tell it from others."""
    return {name: list(_limits(each)) for name, each in space.items()}


def _limits(distribution: BaseDistribution) -> Iterable[Any]:
    if isinstance(distribution, CategoricalDistribution):
        return distribution.choices
    assert isinstance(distribution, FloatDistribution)
    return distribution.low, distribution.high
