"""Refuses what the runtime would end the process by, lest a client end it for all."""

from collections.abc import Mapping

import numpy as np

from serving.errors import InvalidArgument
from serving.types import Array, DeadlyValues


def refuse_deadly(inputs: Mapping[str, Array], deadly: DeadlyValues, model: str) -> None:
    """InvalidArgument where `inputs` for `model` have such values together."""
    for dividend, divisor in deadly.divisions:
        if dividend in inputs and (not divisor or divisor in inputs):
            _refuse_division(inputs, dividend, divisor, model)
    for name in deadly.lengths & inputs.keys():
        if (inputs[name] <= 0).any():
            raise InvalidArgument(
                f"input '{name}' for model '{model}' must be above 0, as it is the length of a "
                f"frame; got {inputs[name].min()}"
            )


def _refuse_division(inputs: Mapping[str, Array], dividend: str, divisor: str, model: str) -> None:
    smallest = np.iinfo(inputs[dividend].dtype).min
    if not (inputs[dividend] == smallest).any():
        return
    if not divisor:
        raise InvalidArgument(
            f"input '{dividend}' for model '{model}' must not hold {smallest}, which the model "
            "divides: divided by -1 it would be no integer of as many bits"
        )
    if (inputs[divisor] == -1).any():
        raise InvalidArgument(
            f"input '{dividend}' for model '{model}' must not hold {smallest} where input "
            f"'{divisor}', by which it is divided, holds -1: the quotient is no integer of as many "
            "bits"
        )
