"""What a data set is, once in memory: raw arrays, and the contract by which they are read."""

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from training.spec import Normalisation, TensorField

Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """Inputs are raw, as a client would send them; `normalisation` is the model's business."""

    name: str
    train_x: Array  # (N, *field.shape), of the field's datatype
    train_y: npt.NDArray[np.int64]  # (N,), indices into `labels`
    test_x: Array
    test_y: npt.NDArray[np.int64]
    labels: tuple[str, ...]
    field: TensorField
    normalisation: Normalisation

    @property
    def sha256(self) -> str:
        """One hash over all four arrays: their types, shapes and bytes."""
        digest = hashlib.sha256()
        for array in (self.train_x, self.train_y, self.test_x, self.test_y):
            digest.update(f"{array.dtype.str}{array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()
