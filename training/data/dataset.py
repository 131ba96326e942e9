"""What a data set is, once in memory: raw arrays, and the contract by which they are read."""

import dataclasses
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from training.spec import Normalisation, TensorField

Array: TypeAlias = npt.NDArray[Any]


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """Inputs are raw, as a client would send them; `normalisation` is the model's business.

    A target is an index into `labels`, or whatever else the task says. `columns` names the places
    along an input's last dimension, where they have names."""

    name: str
    train_x: Array  # (N, *field.shape), of the field's datatype; texts are padded on the right
    train_y: Array  # (N, ...)
    test_x: Array
    test_y: Array
    labels: tuple[str, ...]
    field: TensorField
    normalisation: Normalisation
    columns: tuple[str, ...] = ()
    tokenizer: str = ""  # what made the inputs of texts, as `tokenizer.json` has it
    # How many training samples before one have a part in common with it, where they follow in time.
    overlap: int = 0
    # Further sets, inputs and targets, that are scored at the end and never trained on.
    probes: Mapping[str, tuple[Array, Array]] = dataclasses.field(default_factory=dict)

    @property
    def sha256(self) -> str:
        """One hash over all four arrays: their types, shapes and bytes."""
        digest = hashlib.sha256()
        for array in (self.train_x, self.train_y, self.test_x, self.test_y):
            digest.update(f"{array.dtype.str}{array.shape}".encode())
            digest.update(np.ascontiguousarray(array).data)
        return digest.hexdigest()
