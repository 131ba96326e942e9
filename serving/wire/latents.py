"""What a generator makes its pictures of, drawn from a seed: nobody needs to type such numbers."""

import secrets
from typing import Any, Final

import numpy as np

from serving.errors import InvalidArgument
from serving.types import Array, TensorSpec
from serving.wire import json_examples, json_text
from serving.wire.fields import fault

SEED: Final = "seed"
PICTURES: Final = "pictures"
_SEEDS: Final = 2**63


def decode(body: bytes, spec: TensorSpec, most: int) -> Array | None:
    """As many rows of `spec.dims` as the object in `body` says under `pictures`, from 1 to `most`;
    None where the body holds the numbers themselves.

    The same `seed` gives the same rows, whatever their number; without one they are new each time.
    Raises Malformed, or InvalidArgument for an input that is not to be drawn so.
    """
    document = json_text.loads(body)
    if type(document) is not dict or json_examples.KEY in document:
        return None
    if unknown := document.keys() - {SEED, PICTURES}:
        raise fault("body", f"{SEED} and {PICTURES}, or {json_examples.KEY}", min(unknown))
    if not spec.datatype.is_float or -1 in spec.dims:
        raise InvalidArgument(
            f"input '{spec.name}' is {spec.datatype.wire} {list(spec.dims)}, and what is drawn is "
            f"floating point of fixed dimensions; send the input under {json_examples.KEY}"
        )
    rows = _integer(document, PICTURES, 1, 1, most)
    seed = _integer(document, SEED, secrets.randbelow(_SEEDS), 0, _SEEDS - 1)
    drawn = np.random.default_rng(seed).standard_normal((rows, *spec.dims))
    latents: Array = drawn.astype(spec.datatype.numpy)
    return latents


def _integer(document: dict[str, Any], key: str, default: int, least: int, most: int) -> int:
    value = document.get(key, default)
    if type(value) is not int or not least <= value <= most:
        raise fault(key, f"a whole number from {least} to {most}", value)
    return value
