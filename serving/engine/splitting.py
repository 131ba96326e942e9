"""Requests of more rows than an execution takes: several executions, and one answer."""

from collections.abc import Iterable, Sequence
from typing import TypeAlias

import numpy as np

from serving.engine.validation import Admitted
from serving.errors import InvalidArgument
from serving.types import Array, Tensor, Timing

Answer: TypeAlias = tuple[dict[str, Array], Timing]


class Splitter:
    """Splits requests for `model` into parts of `max_rows` rows, no more than `max_parts`.

    A part is to the queue what a request is; more of them than may wait would never all run.
    """

    def __init__(self, model: str, max_rows: int, max_parts: int) -> None:
        self._model = model
        self._max_rows = max_rows
        self._limit = max_rows * max_parts

    def parts(self, admitted: Admitted, label: str) -> list[Admitted]:
        """The request itself, or views of its rows; InvalidArgument if these are too many.

        `label` is what messages about the request begin with.
        """
        rows, step = admitted.rows, self._max_rows
        if rows <= step:
            return [admitted]
        if rows > self._limit:
            raise InvalidArgument(
                f"{label}inference request batch-size must be <= {self._limit} for "
                f"'{self._model}', got {rows} rows, which are more parts of {step} than may wait"
            )
        return [
            Admitted(_cut(admitted.inputs, begin, step), admitted.outputs, size, admitted.key)
            for begin in range(0, rows, step)
            if (size := min(step, rows - begin))
        ]


def join(answers: Sequence[Answer]) -> Answer:
    """The answer to the whole request, of those to its parts in order.

    It waited until its first part ran; the times of its executions add up, whether they ran one
    after the other or side by side, and its batch is the largest one.
    """
    arrays, timings = zip(*answers, strict=True)
    first = min(timings, key=lambda timing: timing.queue)
    whole = Timing(
        queue=first.queue,
        compute_input=sum(timing.compute_input for timing in timings),
        compute_infer=sum(timing.compute_infer for timing in timings),
        compute_output=sum(timing.compute_output for timing in timings),
        batch_rows=max(timing.batch_rows for timing in timings),
        company=first.company,
        queued_at=first.queued_at,
    )
    return {name: np.concatenate([part[name] for part in arrays]) for name in arrays[0]}, whole


def _cut(inputs: Iterable[Tensor], begin: int, rows: int) -> tuple[Tensor, ...]:
    return tuple(
        Tensor(tensor.name, tensor.datatype, tensor.array[begin : begin + rows])
        for tensor in inputs
    )
