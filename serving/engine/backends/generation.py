"""Opens language models that are exported as one step with a cache (see docs/generation.md).

The graph, which `penstock export` writes, for heads H of D numbers and a context of T places:

input_ids        INT64 [batch, length]        tokens that follow what is in the cache
positions        INT64 [batch]                the place of each row's first one, from 0 on
past.N.key       FP32  [batch, H, T, D]       the cache of layer N: place p is at p modulo T
past.N.value     FP32  [batch, H, T, D]
logits           FP32  [batch, length, V]     of the token that follows each of them
new.N.key        FP32  [batch, H, length, D]  what is to be put into the cache for them
new.N.value      FP32  [batch, H, length, D]
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import numpy as np

from serving.config import CPU, Placement
from serving.dtypes import Datatype
from serving.engine.backends.base import Session
from serving.engine.backends.characters import Characters
from serving.engine.backends.ort import OrtBackend
from serving.errors import LoadFailed
from serving.types import Array, Signature, TensorSpec

TOKENIZER: Final = "tokenizer.json"
PROMPT: Final = TensorSpec("text_input", Datatype.BYTES, (-1, 1))
STOP: Final = TensorSpec("stop", Datatype.BYTES, (-1, -1), optional=True)
TEXT: Final = TensorSpec("text_output", Datatype.BYTES, (-1, 1))

_IDS: Final = TensorSpec("input_ids", Datatype.INT64, (-1, -1))
_POSITIONS: Final = TensorSpec("positions", Datatype.INT64, (-1,))
_LOGITS: Final = "logits"
_PAST, _NEW = "past.", "new."


class Cache:
    """What a model has read of the texts in each of `slots` places, for the steps to come."""

    def __init__(self, rings: Sequence[TensorSpec], slots: int) -> None:
        self._rings = {
            ring.name: np.zeros((slots, *ring.dims[1:]), ring.datatype.numpy) for ring in rings
        }
        self._context = rings[0].dims[2]

    def part(self, slots: slice) -> dict[str, Array]:
        """What a step takes of these slots; not a copy."""
        return {name: ring[slots] for name, ring in self._rings.items()}

    def put(self, slots: slice, positions: Array, new: Mapping[str, Array], length: int) -> None:
        """Keep the first `length` places of what a step of these slots has made `new`."""
        rows = np.arange(slots.start, slots.stop)[:, None]
        places = (positions[:, None] + np.arange(length)) % self._context  # (B, length)
        for name, ring in self._rings.items():
            ring[rows, :, places] = new[name][:, :, :length].transpose(0, 2, 1, 3)

    def move(self, source: int, target: int) -> None:
        """Let the slot `target` hold what `source` does."""
        for ring in self._rings.values():
            ring[target] = ring[source]


class GenerationSession:
    """A language model: its graph, and the characters that its numbers stand for."""

    def __init__(self, graph: Session, characters: Characters, place: Path) -> None:
        """LoadFailed where the graph is no such step, or one for other characters."""
        self._graph = graph
        self.characters = characters
        self._rings = _rings(graph.signature, len(characters), place)
        self._outputs = [_LOGITS, *(_new(ring.name) for ring in self._rings)]

    @property
    def signature(self) -> Signature:
        """What clients see: text in, text out."""
        return Signature((PROMPT, STOP), (TEXT,))

    @property
    def steady(self) -> bool:
        """Texts take as long as they are."""
        return False

    @property
    def context(self) -> int:
        """How many tokens the model looks back on."""
        return self._rings[0].dims[2]

    def cache(self, slots: int) -> Cache:
        """An empty one for so many texts at a time."""
        return Cache(self._rings, slots)

    def step(self, ids: Array, positions: Array, cache: Cache, slots: slice, length: int) -> Array:
        """Read `ids` [rows, steps] into the cache of `slots`, which are as many.

        `positions` [rows] says where the first of them stand; of each row the first `length` are
        real, the others padding. Returns the logits [rows, vocabulary] of what follows those.
        Raises Internal if the execution fails.
        """
        feed = {_IDS.name: ids, _POSITIONS.name: positions} | cache.part(slots)
        logits, *new = self._graph.run(feed, self._outputs)
        names = (ring.name for ring in self._rings)
        cache.put(slots, positions, dict(zip(names, new, strict=True)), length)
        found: Array = logits[:, length - 1]
        return found

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> list[Array]:
        """The likeliest first character after each prompt's last one: what warms the model up."""
        prompts = [text.decode()[-1:] for text in inputs[PROMPT.name].reshape(-1)]
        ids = np.array([self.characters.encode(text or self.characters.first) for text in prompts])
        rows = len(ids)
        logits = self.step(ids, np.zeros(rows, np.int64), self.cache(rows), slice(0, rows), 1)
        texts = [[self.characters.decode([token]).encode()] for token in logits.argmax(axis=1)]
        return [np.array(texts, dtype=object) for _ in outputs]

    def close(self) -> None:
        """Release the graph's session."""
        self._graph.close()


class GenerationBackend:
    """Opens `model.onnx` and `tokenizer.json` of a version folder."""

    def __init__(self, runtime: OrtBackend) -> None:
        self._runtime = runtime

    def open(self, config: Any, folder: Path, placement: Placement = CPU) -> GenerationSession:
        """A session for the version in `folder`; its cache is in the memory of the host."""
        path = folder / TOKENIZER
        try:
            characters = Characters.read(path.read_text("utf-8"), str(path))
        except (OSError, UnicodeDecodeError) as error:
            raise LoadFailed(
                f"{path}: cannot be read ({error}); it says which characters the model's numbers "
                "stand for"
            ) from error
        graph = self._runtime.open(config, folder, placement)
        try:
            return GenerationSession(graph, characters, folder)
        except BaseException:
            graph.close()
            raise


def _new(ring: str) -> str:
    return _NEW + ring.removeprefix(_PAST)


def _rings(signature: Signature, vocabulary: int, place: Path) -> tuple[TensorSpec, ...]:
    """The inputs that are caches; LoadFailed unless all is as the top of this file has it."""
    rings = tuple(spec for spec in signature.inputs if spec.name.startswith(_PAST))
    shapes = {ring.dims for ring in rings}
    whole = len(shapes) == 1 and all(
        len(dims) == 4 and dims[0] == -1 and min(dims[1:]) > 0 for dims in shapes
    )
    if whole:
        batch, heads, _, width = next(iter(shapes))
        logits = TensorSpec(_LOGITS, Datatype.FP32, (-1, -1, vocabulary))
        new = [
            replace(ring, name=_new(ring.name), dims=(batch, heads, -1, width)) for ring in rings
        ]
        wanted = Signature((_IDS, _POSITIONS, *rings), (logits, *new))
        whole = all(ring.datatype is Datatype.FP32 for ring in rings) and signature == wanted
    if not whole:
        raise LoadFailed(
            f"{place}: the graph is no step of a generation for {vocabulary} characters: it takes "
            f"{_told(signature.inputs)} and gives {_told(signature.outputs)}; penstock export "
            "writes one"
        )
    return rings


def _told(specs: Sequence[TensorSpec]) -> str:
    return ", ".join(f"{spec.name} {spec.datatype.wire}{list(spec.dims)}" for spec in specs)
