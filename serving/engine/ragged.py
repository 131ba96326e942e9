"""How requests of different sizes share a batch: end to end, with inputs that say where each is."""

from collections.abc import Mapping, Sequence

import numpy as np

from serving.config import BatchInput, BatchInputKind, ModelConfig
from serving.engine.batching.merge import concat
from serving.engine.execution import Execution, Shape
from serving.engine.validation import Admitted
from serving.errors import Internal
from serving.types import Array, Tensor


class RaggedExecution(Execution):
    """Runs batches of a model with ragged inputs, batch inputs or batch outputs."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self._ragged = config.ragged_inputs
        self._batch_inputs = config.batch_inputs
        self._sources = config.batch_outputs
        batch = (-1,) if config.max_batch_size else ()
        self._dims = {spec.name: (*batch, *spec.dims) for spec in config.outputs}

    def feed(self, requests: Sequence[Sequence[Tensor]]) -> dict[str, Array]:
        """All that the graph takes for a batch of these requests."""
        given = [self._arrays(request) for request in requests]
        even = [[item for item in request if item.name not in self._ragged] for request in requests]
        inputs = self.to_graph(concat(even))
        for name in self._ragged:
            inputs[name] = np.concatenate([arrays[name].reshape(-1) for arrays in given])
        for wanted in self._batch_inputs:
            told = _tell(wanted, [arrays[wanted.source].shape for arrays in given])
            inputs |= dict.fromkeys(wanted.targets, told)
        return inputs

    def share(
        self, outputs: Mapping[str, Array], items: Sequence[Admitted], rows: Sequence[int]
    ) -> list[dict[str, Array]]:
        """Each request's part of the outputs."""
        even = {name: array for name, array in outputs.items() if name not in self._sources}
        answers = super().share(even, items, rows) if even else [{} for _ in items]
        for name in outputs.keys() & self._sources.keys():
            shapes = [self._shape(name, item) for item in items]
            for answer, part in zip(answers, _cut(name, outputs[name], shapes), strict=True):
                answer[name] = part
        return answers

    def _arrays(self, request: Sequence[Tensor]) -> dict[str, Array]:
        return self.to_graph({tensor.name: tensor.array for tensor in request})

    def _shape(self, output: str, item: Admitted) -> Shape:
        """Variable dimensions are those of the source, at the same place."""
        shape = self._arrays(item.inputs)[self._sources[output]].shape
        dims = self._dims[output]
        return tuple(shape[place] if dim == -1 else dim for place, dim in enumerate(dims))


def _tell(wanted: BatchInput, shapes: Sequence[Shape]) -> Array:
    """What a batch input says of requests whose source has these shapes, the batch included."""
    counts = [int(np.prod(shape)) for shape in shapes]
    items = [shape[1:] for shape in shapes for _ in range(shape[0])]
    datatype = wanted.datatype.numpy
    match wanted.kind:
        case BatchInputKind.ELEMENT_COUNT:
            return np.array(counts, datatype)
        case BatchInputKind.ACCUMULATED_ELEMENT_COUNT:
            return np.cumsum(counts).astype(datatype)
        case BatchInputKind.ACCUMULATED_ELEMENT_COUNT_WITH_ZERO:
            return np.cumsum([0, *counts]).astype(datatype)
        case BatchInputKind.MAX_ELEMENT_COUNT_AS_SHAPE:
            return np.zeros(max(counts), datatype)
        case BatchInputKind.ITEM_SHAPE:
            return np.array(items, datatype)
        case BatchInputKind.ITEM_SHAPE_FLATTEN:
            return np.array(items, datatype).reshape(-1)


def _cut(name: str, row: Array, shapes: Sequence[Shape]) -> list[Array]:
    """One request's results after the other, each of its shape; Internal if they do not add up."""
    sizes = [int(np.prod(shape)) for shape in shapes]
    if row.size != sum(sizes):
        raise Internal(
            f"output '{name}' of the model has {row.size} elements for requests of "
            f"{' and '.join(str(list(shape)) for shape in shapes)}"
        )
    parts = np.split(row.reshape(-1), np.cumsum(sizes)[:-1])
    return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]
