"""The classification extension: the best classes of an output in place of its values."""

from collections.abc import Sequence

import numpy as np

from serving.dtypes import Datatype
from serving.errors import InvalidArgument
from serving.types import Tensor


def classify(tensor: Tensor, count: int, labels: Sequence[str], batched: bool) -> Tensor:
    """The `count` best classes of each row, best first, as BYTES `value:index[:label]`.

    Shape [rows, count] for a model that batches, else [count]; fewer if there are not as many
    classes. InvalidArgument if the output holds no numbers.
    """
    if tensor.datatype in (Datatype.BYTES, Datatype.BF16):
        raise InvalidArgument(
            f"output '{tensor.name}' is {tensor.datatype.wire}, which has no order; "
            "classification needs a numeric output"
        )
    rows = tensor.array.reshape(len(tensor.array) if batched else 1, -1)
    best = np.argsort(-rows.astype(np.float64), axis=1, kind="stable")[:, :count]
    classes = np.empty(best.shape, dtype=object)
    for (row, place), found in np.ndenumerate(best):
        index = int(found)
        label = f":{labels[index]}" if index < len(labels) else ""
        classes[row, place] = f"{rows[row, index]:f}:{index}{label}".encode()
    return Tensor(tensor.name, Datatype.BYTES, classes if batched else classes[0])
