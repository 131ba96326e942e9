"""What a TensorRT engine is for: it runs on the GPU, and by the versions, that it was built for."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TypeAlias

from export.errors import EngineRefused
from serving.config import Proto

Shape: TypeAlias = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Target:
    """A GPU by its model and compute capability (such as 9.0), and the versions on its machine."""

    gpu: str
    capability: str
    driver: str
    cuda: str
    tensorrt: str

    @property
    def key(self) -> str:
        """Equal where the same kernels are as fast: what a timing cache is for."""
        return digest(asdict(self))


@dataclass(frozen=True, slots=True)
class Profile:
    """The shapes that an input may have, the batch included, and the one to be fast at."""

    smallest: Shape
    likely: Shape
    largest: Shape


def profiles(config: Proto, longest: int) -> dict[str, Profile]:
    """Of each input of a configuration: 1 to `max_batch_size` rows, likely the preferred sizes'
    largest, or that itself. Variable dimensions, as of texts, are up to `longest`.

    EngineRefused where there is a variable dimension and nothing says how long it may be.
    """
    rows = max(1, config.max_batch_size)
    likely = max(config.dynamic_batching.preferred_batch_size, default=rows)
    batched = config.max_batch_size > 0
    found = {}
    for given in config.input:
        if -1 in given.dims and not longest:
            raise EngineRefused(
                f"input '{given.name}' has variable dimensions {list(given.dims)}, and nothing "
                "says how long they may be, which TensorRT has to know"
            )
        found[given.name] = Profile(
            _shape(given.dims, 1, 1, batched),
            _shape(given.dims, likely, max(1, longest // 2), batched),
            _shape(given.dims, rows, longest, batched),
        )
    return found


def key(target: Target, graph: bytes, precision: str, shapes: Mapping[str, Profile]) -> str:
    """Equal where a build would give an equal engine."""
    return digest(
        {
            "target": asdict(target),
            "graph": sha256(graph),
            "precision": precision,
            "profiles": {name: asdict(profile) for name, profile in sorted(shapes.items())},
        }
    )


def sha256(data: bytes) -> str:
    """In hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def digest(content: object) -> str:
    """A name for plain values, the same in every process."""
    text = json.dumps(content, sort_keys=True)
    return sha256(text.encode())[:32]


def _shape(dims: list[int], rows: int, length: int, batched: bool) -> Shape:
    inner = (length if dim == -1 else dim for dim in dims)
    return (rows, *inner) if batched else tuple(inner)
