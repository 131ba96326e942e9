"""What a request asks of its text, and how the next token is chosen by it."""

import math
import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from serving.errors import InvalidArgument
from serving.types import Array, Parameters

DEFAULT_MAX_TOKENS: Final = 100
MAX_STOPS: Final = 16
MAX_STOP_LENGTH: Final = 1000  # characters
_SEEDS: Final = 2**63
# What requests may say beside it, of their way through the server.
_OF_OTHERS: Final = frozenset(
    {"priority", "timeout", "sequence_id", "sequence_start", "sequence_end"}
)


@dataclass(frozen=True, slots=True)
class Sampling:
    """How a text is to go on.

    `max_tokens`   how many tokens it gets at most
    `temperature`  what logits are divided by; 0 takes the likeliest token, always
    `top_k`        of how many tokens, the likeliest, the next one is drawn; 0: of all
    `top_p`        ... and of the fewest of those that together have this probability
    `seed`         of the draws: the same request with the same seed gives the same text
    `stop`         texts at which it ends, and which are not part of it
    `stream`       whether the text is wanted as it comes, rather than as a whole
    """

    max_tokens: int
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0
    stop: tuple[str, ...] = ()
    stream: bool = True


def read_sampling(
    parameters: Parameters, stop: Sequence[str] | None, stream: bool, limit: int
) -> Sampling:
    """The sampling that a request's `parameters` ask for.

    `stop` is what its input of that name holds, None without it; `stream` holds where the request
    does not say, `limit` bounds `max_tokens`. InvalidArgument names what cannot be.
    """
    values = dict(_known(parameters, limit))
    stops = _stops(parameters, stop)
    return Sampling(
        max_tokens=values.get("max_tokens", min(DEFAULT_MAX_TOKENS, limit)),
        temperature=values.get("temperature", 1.0),
        top_k=values.get("top_k", 0),
        top_p=values.get("top_p", 1.0),
        seed=values.get("seed", secrets.randbelow(_SEEDS)),
        stop=stops,
        stream=values.get("stream", stream),
    )


def _known(parameters: Parameters, limit: int) -> Sequence[tuple[str, Any]]:
    rules = _RULES | {
        "max_tokens": (
            lambda value: type(value) is int and 1 <= value <= limit,
            f"a whole number from 1 to {limit}",
        )
    }
    given = []
    for name, value in parameters.items():
        if name in rules:
            holds, expected = rules[name]
            if not holds(value):
                raise InvalidArgument(f"parameter '{name}' must be {expected}, got {value!r}")
            given.append((name, value))
        elif name != "stop" and name not in _OF_OTHERS and not name.startswith("triton_"):
            raise InvalidArgument(
                f"unknown parameter '{name}'; a generation takes {', '.join(sorted(rules))}, stop"
            )
    return given


def _stops(parameters: Parameters, stop: Sequence[str] | None) -> tuple[str, ...]:
    if "stop" in parameters:
        if stop is not None:
            raise InvalidArgument("stop is given twice, as an input and as a parameter")
        value = parameters["stop"]
        if type(value) is not str:
            raise InvalidArgument(f"parameter 'stop' must be a text, got {value!r}")
        stop = (value,)
    stops = tuple(stop or ())
    if len(stops) > MAX_STOPS or not all(0 < len(each) <= MAX_STOP_LENGTH for each in stops):
        raise InvalidArgument(
            f"stop: expected up to {MAX_STOPS} texts of 1 to {MAX_STOP_LENGTH} characters"
        )
    return stops


def _is_number(value: object) -> bool:
    return type(value) in (int, float) and math.isfinite(value)  # type: ignore[arg-type]


_RULES: Final[dict[str, tuple[Callable[[Any], bool], str]]] = {
    "temperature": (lambda value: _is_number(value) and value >= 0, "a number of 0 or more"),
    "top_k": (lambda value: type(value) is int and value >= 1, "a whole number of 1 or more"),
    "top_p": (lambda value: _is_number(value) and 0 < value <= 1, "a number above 0, up to 1"),
    "seed": (
        lambda value: type(value) is int and 0 <= value < 2**64,
        "a whole number of 0 or more, of 64 bits",
    ),
    "stream": (lambda value: type(value) is bool, "true or false"),
}


class Sampler:
    """Chooses tokens for one text, with draws of its own."""

    def __init__(self, sampling: Sampling) -> None:
        self._sampling = sampling
        self._random = np.random.default_rng(sampling.seed)

    def choose(self, logits: Array) -> int:
        """The next token, by the FP32 logits [vocabulary] of each."""
        sampling = self._sampling
        if sampling.temperature == 0:
            return int(logits.argmax())
        order, shares = _likeliest(logits, sampling.temperature, sampling.top_k or len(logits))
        reached = shares.cumsum()
        kept = 1 + int(np.searchsorted(reached, sampling.top_p * reached[-1]))
        reached = reached[:kept]
        drawn = int(np.searchsorted(reached, self._random.random() * reached[-1], side="right"))
        return int(order[min(drawn, len(reached) - 1)])


def _likeliest(logits: Array, temperature: float, count: int) -> tuple[Array, Array]:
    """The `count` likeliest tokens, the likeliest first, and their shares up to a factor."""
    wide = logits.astype(np.float64)
    order = np.argsort(-wide, kind="stable")[:count]
    with np.errstate(over="ignore"):  # at temperatures near 0 all but the first come to nothing
        shares = np.exp((wide[order] - wide[order[0]]) / temperature)
    return order, shares
