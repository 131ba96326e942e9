"""A model's data contract: its tensors by name, type and shape, and how raw input is normalised."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TensorField:
    """One input or output. `datatype` is an Open Inference Protocol name; `shape` leaves out the
    batch dimension, and -1 in it stands for a variable size."""

    name: str
    datatype: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Signature:
    inputs: tuple[TensorField, ...]
    outputs: tuple[TensorField, ...]


@dataclass(frozen=True, slots=True)
class Normalisation:
    """x' = (x * scale - mean) / std, where `mean` and `std` hold one value per channel
    (dimension 1), or a single one for all channels."""

    scale: float
    mean: tuple[float, ...]
    std: tuple[float, ...]


def classifier(field: TensorField, classes: int) -> Signature:
    """The signature of every classifier here: raw input in, logits and probabilities out."""
    return Signature(
        inputs=(field,),
        outputs=(
            TensorField("logits", "FP32", (classes,)),
            TensorField("probabilities", "FP32", (classes,)),
        ),
    )
