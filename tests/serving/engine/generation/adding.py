"""A language model whose next token anybody can foretell: the sum of those it looks back on.

It keeps the tokens in its cache, as others keep keys and values, and so goes wrong wherever a cache
that is not its text's own, or not in order, is laid before it.
"""

import threading
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import numpy as np

from serving.config import Source, complete, instance_sessions, parse, resolve
from serving.dtypes import Datatype
from serving.engine.assemble import assemble
from serving.engine.backends.characters import Characters
from serving.engine.backends.generation import GenerationSession
from serving.engine.servable import Opened, Servable
from serving.types import Array, InferenceRequest, InferenceResponse, Signature, Tensor, TensorSpec

ALPHABET = "abcdefghijk"  # a prime number of them: sums do not soon repeat
CONTEXT = 8
CONFIG = """
backend: "generation" max_batch_size: {rows}
input {{ name: "text_input" data_type: TYPE_STRING dims: 1 }}
input {{ name: "stop" data_type: TYPE_STRING dims: -1 optional: true }}
output {{ name: "text_output" data_type: TYPE_STRING dims: 1 }}
model_transaction_policy {{ decoupled: true }}
{more}
"""

_FP32, _INT64 = Datatype.FP32, Datatype.INT64


class AddingGraph:
    """As an exported step: see `serving.engine.backends.generation`.

    `before` is called before each step, in its thread, with the number of its rows.
    """

    steady = False

    def __init__(self, before: Callable[[int], object] = lambda rows: None) -> None:
        self.before = before
        self.closed = False
        self.signature = Signature(
            (
                TensorSpec("input_ids", _INT64, (-1, -1)),
                TensorSpec("positions", _INT64, (-1,)),
                TensorSpec("past.0.key", _FP32, (-1, 1, CONTEXT, 1)),
                TensorSpec("past.0.value", _FP32, (-1, 1, CONTEXT, 1)),
            ),
            (
                TensorSpec("logits", _FP32, (-1, -1, len(ALPHABET))),
                TensorSpec("new.0.key", _FP32, (-1, 1, -1, 1)),
                TensorSpec("new.0.value", _FP32, (-1, 1, -1, 1)),
            ),
        )

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> list[Array]:
        ids, past = inputs["input_ids"], inputs["past.0.key"]
        self.before(len(ids))
        logits = np.zeros((*ids.shape, len(ALPHABET)), np.float32)
        for row, position in enumerate(inputs["positions"]):
            ring = past[row, 0, :, 0]
            held = [int(ring[p % CONTEXT]) for p in range(max(0, position - CONTEXT), position)]
            for step in range(ids.shape[1]):
                seen = [*held, *ids[row, : step + 1]][-CONTEXT:]
                logits[row, step, sum(seen) % len(ALPHABET)] = 2.0
        new = ids[:, None, :, None].astype(np.float32)
        return [logits, new, new]

    def close(self) -> None:
        self.closed = True


def foretold(prompt: str, count: int) -> str:
    """The text that follows where the likeliest token is taken each time."""
    tokens = [ALPHABET.index(character) for character in prompt]
    for _ in range(count):
        tokens.append(sum(tokens[-CONTEXT:]) % len(ALPHABET))
    return "".join(ALPHABET[token] for token in tokens[len(prompt) :])


class Gate:
    """Lets a graph take steps as the test says: so many, or any number."""

    def __init__(self) -> None:
        self.rows: list[int] = []
        self._permits = threading.Semaphore(0)
        self._is_open = False

    def __call__(self, rows: int) -> None:
        assert self._is_open or self._permits.acquire(timeout=60)
        self.rows.append(rows)

    def permit(self, steps: int) -> None:
        self._permits.release(steps)

    def open(self) -> None:
        self._is_open = True
        self._permits.release()  # who waits already


def opened(graph: AddingGraph, rows: int = 4, more: str = "") -> Opened:
    characters = Characters({character: i for i, character in enumerate(ALPHABET)})
    session = GenerationSession(graph, characters, Path("m/1"))
    text = CONFIG.format(rows=rows, more=more)
    source = Source("m", text)
    config = complete(resolve(parse(text, "m"), "m", source), session.signature, source)
    return Opened(config, "1", [session] * len(instance_sessions(config.proto)))


@asynccontextmanager
async def served(
    graph: AddingGraph | None = None, rows: int = 4, more: str = "", max_queue: int = 64
) -> AsyncIterator[Servable]:
    servable = assemble(opened(graph or AddingGraph(), rows, more), max_queue, _find)
    try:
        yield servable
    finally:
        await servable.close()


def request(prompt: str, *, stop: Sequence[str] | None = None, **parameters: Any) -> Any:
    """A request for the likeliest text, unless `parameters` say otherwise."""
    inputs = [_text("text_input", [prompt])]
    if stop is not None:
        inputs.append(_text("stop", stop))
    parameters = {"temperature": 0} | parameters
    return InferenceRequest("m", tuple(inputs), parameters=parameters)


async def responses(servable: Servable, asked: InferenceRequest) -> list[InferenceResponse]:
    async with aclosing(servable.stream(asked)) as stream:
        return [response async for response in stream]


async def written(servable: Servable, prompt: str, **parameters: Any) -> str:
    """The text that a request gets, of all its responses."""
    return text_of(await responses(servable, request(prompt, **parameters)))


def text_of(pieces: Sequence[InferenceResponse]) -> str:
    return b"".join(piece.outputs[0].array.item() for piece in pieces).decode()


def _text(name: str, texts: Sequence[str]) -> Tensor:
    return Tensor(name, Datatype.BYTES, np.array([[t.encode() for t in texts]], dtype=object))


def _find(model: str, version: str) -> Servable:
    raise AssertionError("there are no other models")
