"""How tensors flow through an ensemble, and in which shape each model takes them."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from serving.config import Step
from serving.dtypes import Datatype
from serving.types import Array, fits


class Flow:
    """Which steps wait for which; steps are named by their place in the configuration."""

    def __init__(self, steps: Sequence[Step]) -> None:
        writer = {
            tensor: index for index, step in enumerate(steps) for tensor in step.outputs.values()
        }
        self._writer = writer
        self._before = [
            frozenset(writer[tensor] for tensor in step.inputs.values() if tensor in writer)
            for step in steps
        ]

    def needed(self, outputs: Iterable[str]) -> dict[int, frozenset[int]]:
        """The steps without which `outputs` would not exist, each with those it waits for."""
        found: dict[int, frozenset[int]] = {}
        waiting = [self._writer[tensor] for tensor in outputs if tensor in self._writer]
        while waiting:
            index = waiting.pop()
            if index not in found:
                found[index] = self._before[index]
                waiting += self._before[index]
        return found


@dataclass(frozen=True, slots=True)
class Value:
    """A tensor between two steps; `rows` is its batch size, 0 if what wrote it does not batch."""

    datatype: Datatype
    array: Array
    rows: int

    def fit(self, dims: Sequence[int], batches: bool) -> Array:
        """The array for a model that takes `dims`, without the batch, and `batches` or does not.

        As Triton has it: between a model that batches and one that does not, a batch of one gets
        or loses its first dimension where the shape asks for it. Everything else passes as it is.
        """
        if batches == bool(self.rows):
            return self.array
        fitting = fits(self.array.shape, dims)
        if batches and fitting:
            return self.array[None]
        if not batches and not fitting and self.rows == 1:
            row: Array = self.array[0]
            return row
        return self.array
