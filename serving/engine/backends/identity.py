"""Returns its inputs: Triton's `identity` backend, which shows what serving alone costs."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from serving import dtypes
from serving.config import CPU, Placement
from serving.errors import LoadFailed
from serving.types import Array, Signature, TensorSpec


class IdentityBackend:
    """Opens sessions whose output i is input i; the configuration must state both.

    The parameter `execute_delay_ms` makes every execution take that long.
    """

    def open(self, config: Any, folder: Path, placement: Placement = CPU) -> "IdentitySession":
        """A session for `config`; nothing is read from `folder`."""
        if not config.input or len(config.input) != len(config.output):
            raise LoadFailed(
                f"{folder.parent}: backend identity needs as many outputs as inputs in "
                f"config.pbtxt, got {len(config.input)} inputs and {len(config.output)} outputs"
            )
        parameter = config.parameters.get("execute_delay_ms")
        delay = parameter.string_value if parameter else "0"
        if not delay.isdecimal():
            raise LoadFailed(
                f"{folder.parent}: parameter execute_delay_ms is {delay!r}, "
                "expected a whole number of milliseconds"
            )
        batch = (-1,) if config.max_batch_size else ()
        return IdentitySession(
            Signature(_specs(config.input, batch), _specs(config.output, batch)),
            int(delay) / 1000,
        )


class IdentitySession:
    """Hands every input back under the output's name, after `delay` seconds."""

    def __init__(self, signature: Signature, delay: float) -> None:
        self._signature = signature
        self._source = {
            output.name: source.name
            for source, output in zip(signature.inputs, signature.outputs, strict=True)
        }
        self._delay = delay

    @property
    def signature(self) -> Signature:
        """What the configuration states."""
        return self._signature

    @property
    def steady(self) -> bool:
        """Copies cost little, but tensors of any shape may be large."""
        return False

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> list[Array]:
        """The inputs, in the order of `outputs`."""
        if self._delay:
            time.sleep(self._delay)
        return [inputs[self._source[name]] for name in outputs]

    def close(self) -> None:
        """Nothing to release."""


def _specs(fields: Any, batch: tuple[int, ...]) -> tuple[TensorSpec, ...]:
    specs = []
    for field in fields:
        kind = field.DESCRIPTOR.fields_by_name["data_type"].enum_type
        datatype = dtypes.from_config(kind.values_by_number[field.data_type].name)
        if datatype is None:
            raise LoadFailed(f"'{field.name}' has no data_type in config.pbtxt")
        specs.append(TensorSpec(field.name, datatype, (*batch, *field.dims)))
    return tuple(specs)
