"""The classification extension: the best classes of an output in place of its values."""

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np

from serving.dtypes import Datatype
from serving.errors import InvalidArgument
from serving.types import Array, RequestedOutput, Tensor

_WITHOUT_ORDER: Final = (Datatype.BYTES, Datatype.BF16, Datatype.BOOL)


def answer(
    tensors: tuple[Tensor, ...],
    requested: Sequence[RequestedOutput],
    labels: Mapping[str, Sequence[str]],
    batched: bool,
) -> tuple[Tensor, ...]:
    """`tensors` with classes in the place of those of which classes are `requested`.

    The tensors are all outputs, or those that are requested, in that order.
    """
    if not any(wanted.classification for wanted in requested):
        return tensors
    return tuple(
        classify(tensor, wanted.classification, labels.get(tensor.name, ()), batched)
        if wanted.classification
        else tensor
        for tensor, wanted in zip(tensors, requested, strict=True)
    )


def classify(tensor: Tensor, count: int, labels: Sequence[str], batched: bool) -> Tensor:
    """The `count` best classes of each row, best first, as BYTES `value:index[:label]`.

    Shape [rows, count] for a model that batches, else [count]; fewer if there are not as many
    classes. InvalidArgument if the output holds no numbers.
    """
    if tensor.datatype in _WITHOUT_ORDER:
        raise InvalidArgument(
            "class result not available for output due to unsupported type "
            f"'{tensor.datatype.wire}': classification of '{tensor.name}' needs numbers"
        )
    rows = tensor.array.reshape(len(tensor.array) if batched else 1, -1)
    best = _descending(rows)[:, :count]
    number = "f" if tensor.datatype.is_float else "d"
    classes = np.empty(best.shape, dtype=object)
    for (row, place), found in np.ndenumerate(best):
        index = int(found)
        label = labels[index] if index < len(labels) else ""
        text = f"{rows[row, index]:{number}}:{index}"
        classes[row, place] = (f"{text}:{label}" if label else text).encode()
    return Tensor(tensor.name, Datatype.BYTES, classes if batched else classes[0])


def _descending(rows: Array) -> Array:
    """The indices of each row's values, the greatest first; equal ones in their order."""
    if rows.dtype.kind == "f":
        best: Array = np.argsort(-rows, axis=1, kind="stable")
    else:  # the negative of an integer need not be one of its type: sorted backwards instead
        best = rows.shape[1] - 1 - np.argsort(rows[:, ::-1], axis=1, kind="stable")[:, ::-1]
    return best
