"""How a batch of requests becomes one run of a session, and its outputs the requests' answers."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from serving.config import ModelConfig, Reshape
from serving.engine.backends.base import Session
from serving.engine.batching.batch import Batch, Executed
from serving.engine.batching.merge import concat, split
from serving.engine.validation import Admitted
from serving.types import Array, Tensor

Shape: TypeAlias = tuple[int, ...]


class Execution:
    """Runs batches of one model version, each on the session that the batch has for its own."""

    def __init__(self, config: ModelConfig) -> None:
        self._config = config
        self._batches = config.max_batch_size > 0

    def __call__(self, batch: Batch[Admitted, Session]) -> Executed[dict[str, Array]]:
        """The outputs that each request asked for, in a worker thread."""
        begin = time.monotonic_ns()
        names = batch.items[0].outputs
        inputs = self.feed([item.inputs for item in batch.items])
        prepared = time.monotonic_ns()
        results = batch.slot.run(inputs, names)
        computed = time.monotonic_ns()
        outputs = dict(zip(names, results, strict=True))
        answers = self.share(outputs, batch.items, batch.rows)
        return Executed(
            answers, prepared - begin, computed - prepared, time.monotonic_ns() - computed
        )

    def feed(self, requests: Sequence[Sequence[Tensor]]) -> dict[str, Array]:
        """All that the graph takes for a batch of these requests, which are of one `merge_key`."""
        return self.to_graph(concat(requests))

    def share(
        self, outputs: Mapping[str, Array], items: Sequence[Admitted], rows: Sequence[int]
    ) -> list[dict[str, Array]]:
        """Each request's part of the outputs; Internal if they have not the batch's rows."""
        seen = self.to_client(outputs)
        return split(seen, rows) if self._batches else [seen]

    def to_graph(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """The inputs in the shapes that the graph takes, of those that clients send."""
        return self._reshaped(inputs, self._config.input_reshapes, Reshape.to_graph)

    def to_client(self, outputs: Mapping[str, Array]) -> dict[str, Array]:
        """The outputs in the shapes that clients see, of those that the graph gives."""
        return self._reshaped(outputs, self._config.output_reshapes, Reshape.to_client)

    def _reshaped(
        self,
        arrays: Mapping[str, Array],
        reshapes: Mapping[str, Reshape],
        translate: Callable[[Reshape, Shape], Shape],
    ) -> dict[str, Array]:
        changed = dict(arrays)
        if not reshapes:
            return changed
        skip = 1 if self._batches else 0  # the batch dimension stays
        for name in arrays.keys() & reshapes.keys():
            shape = arrays[name].shape
            inner = translate(reshapes[name], shape[skip:])
            changed[name] = arrays[name].reshape((*shape[:skip], *inner))
        return changed
