"""Gives each element of its input back in a response of its own: Triton's `repeat` example.

It shows what a decoupled model is, and lets clients try how they deal with one.
"""

import time
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from serving.config import CPU, Placement
from serving.dtypes import Datatype
from serving.errors import Internal, LoadFailed
from serving.types import Array, Signature, TensorSpec

_INPUTS: Final = {
    "IN": TensorSpec("IN", Datatype.INT32, (-1,)),
    "DELAY": TensorSpec("DELAY", Datatype.UINT32, (-1,)),
    "WAIT": TensorSpec("WAIT", Datatype.UINT32, (1,)),
}
_OUTPUTS: Final = {
    "OUT": TensorSpec("OUT", Datatype.INT32, (1,)),
    "IDX": TensorSpec("IDX", Datatype.UINT32, (1,)),
}


class RepeatBackend:
    """Opens sessions of the one model that there is; its configuration names what it uses of it.

    Inputs: IN, DELAY (milliseconds before each response; as many as IN has elements) and WAIT
    (milliseconds before the first). Outputs: OUT, the element, and IDX, its place.
    """

    def open(self, config: Any, folder: Path, placement: Placement = CPU) -> "RepeatSession":
        """A session for `config`; nothing is read from `folder`."""
        if config.max_batch_size:
            raise LoadFailed(
                f"{folder.parent}: backend repeat does not batch: write max_batch_size: 0"
            )
        return RepeatSession(
            Signature(
                _named(config.input, _INPUTS, "input", folder),
                _named(config.output, _OUTPUTS, "output", folder),
            )
        )


class RepeatSession:
    """A response for each element of IN."""

    def __init__(self, signature: Signature) -> None:
        self._signature = signature

    @property
    def signature(self) -> Signature:
        """Those tensors that the configuration names."""
        return self._signature

    @property
    def steady(self) -> bool:
        """It waits as long as it is told to."""
        return False

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> list[Array]:
        """The response to an IN of one element; Internal for any other."""
        responses = list(self.stream(inputs, outputs))
        if len(responses) != 1:
            raise Internal(
                f"backend repeat makes {len(responses)} responses of this request, and only one "
                "can be sent: write model_transaction_policy { decoupled: true }"
            )
        return responses[0]

    def stream(
        self, inputs: Mapping[str, Array], outputs: Sequence[str]
    ) -> Generator[list[Array], None, None]:
        """The responses, each after its delay."""
        elements = inputs["IN"]
        delays = inputs.get("DELAY", np.zeros(len(elements), np.uint32))
        if len(delays) != len(elements):
            raise Internal(
                f"expect IN and DELAY shape to match, got [{len(elements)}] and [{len(delays)}]"
            )
        for wait in inputs.get("WAIT", ()):
            _wait(wait)
        for index, element in enumerate(elements):
            _wait(delays[index])
            response = {"OUT": np.array([element], np.int32), "IDX": np.array([index], np.uint32)}
            yield [response[name] for name in outputs]

    def close(self) -> None:
        """Nothing to release."""


def _wait(milliseconds: Any) -> None:
    if milliseconds:
        time.sleep(int(milliseconds) / 1000)


def _named(
    tensors: Any, known: Mapping[str, TensorSpec], kind: str, folder: Path
) -> tuple[TensorSpec, ...]:
    """Of the `known` tensors those that the configuration names, or all of them if it names none.

    LoadFailed for others, and where the one is missing without which there is nothing to do.
    """
    names = [tensor.name for tensor in tensors] or list(known)
    unknown = sorted(set(names) - known.keys())
    required = next(iter(known))
    if unknown or required not in names:
        raise LoadFailed(
            f"{folder.parent}: backend repeat has the {kind}s {', '.join(known)} and needs "
            f"{required}, got {', '.join(names)}"
        )
    return tuple(known[name] for name in names)
