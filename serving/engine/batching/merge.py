"""Requests -> one batch -> requests: along axis 0, with no more copies than it takes."""

from collections.abc import Container, Hashable, Mapping, Sequence
from itertools import accumulate, pairwise

import numpy as np

from serving.errors import Internal
from serving.types import Array, Tensor


def merge_key(
    inputs: Sequence[Tensor], outputs: Hashable = None, ragged: Container[str] = ()
) -> Hashable:
    """Equal for requests that may share a batch, in whatever order they list their inputs.

    They have the same inputs with the same datatypes and shapes beyond the batch dimension, those
    of `ragged` inputs aside, and want the same `outputs`.
    """
    specs = [
        (
            tensor.name,
            tensor.datatype.value,
            () if tensor.name in ragged else tensor.array.shape[1:],
        )
        for tensor in inputs
    ]
    if len(specs) > 1:
        specs.sort()
    return outputs, *specs


def concat(requests: Sequence[Sequence[Tensor]]) -> dict[str, Array]:
    """The batch's array of each input; `requests` are one or more, all of one `merge_key`.

    A request by itself is passed on without a copy.
    """
    first, *others = requests
    if not others:
        return {tensor.name: tensor.array for tensor in first}
    parts = {tensor.name: [tensor.array] for tensor in first}
    for request in others:
        for tensor in request:
            parts[tensor.name].append(tensor.array)
    # Merging what differs is a bug of the caller's that must not pass as a conversion.
    return {
        name: np.concatenate(arrays, dtype=arrays[0].dtype, casting="no")
        for name, arrays in parts.items()
    }


def split(outputs: Mapping[str, Array], rows: Sequence[int]) -> list[dict[str, Array]]:
    """Each request's share of the batch's outputs, `rows` being the requests' row counts.

    The shares are views. For models that batch only: the outputs of one that does not have no
    batch dimension to split or check. Internal if an output has not the batch's row count.
    """
    total = sum(rows)
    for name, array in outputs.items():
        if array.ndim == 0 or array.shape[0] != total:
            shape = list(array.shape)
            raise Internal(
                f"output '{name}' of the model has shape {shape} for a batch of {total} rows; "
                f"expected {total} rows, got {shape[0] if shape else 'a scalar'}"
            )
    if len(rows) == 1:
        return [dict(outputs)]
    cuts = [slice(*cut) for cut in pairwise(accumulate(rows, initial=0))]
    return [{name: array[cut] for name, array in outputs.items()} for cut in cuts]
