"""Where models may execute: what `--device` asks for, and which GPUs there are."""

import re
from dataclasses import dataclass
from enum import Enum
from typing import Final

_WISH: Final = re.compile(r"(auto|cpu|cuda|tensorrt)(?::(\d+(?:,\d+)*))?")


class Device(Enum):
    """What executes the models that leave it open (KIND_AUTO, or no instance group at all).

    `auto` takes GPUs where ONNX Runtime can use them, and the CPU elsewhere; `cpu` never looks for
    any. `cuda` and `tensorrt` are asked for: a server that cannot have them does not start.
    """

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"
    TENSORRT = "tensorrt"


@dataclass(frozen=True, slots=True)
class Wish:
    """What `--device` says; `gpus` are CUDA's numbers of the GPUs to use, none for all of them.

    `own` are those among them that this process drives, where others drive the rest; None: all.
    """

    device: Device = Device.AUTO
    gpus: tuple[int, ...] = ()
    own: tuple[int, ...] | None = None

    @classmethod
    def of(cls, text: str) -> "Wish":
        """The wish that `text` spells; ValueError says what was expected."""
        found = _WISH.fullmatch(text.strip().lower())
        if found is None or (found[2] and found[1] in ("auto", "cpu")):
            raise ValueError(f"{text!r} is not auto, cpu, cuda, cuda:N[,M...] or tensorrt")
        gpus = tuple(map(int, found[2].split(","))) if found[2] else ()
        if len(set(gpus)) < len(gpus):
            raise ValueError(f"{text!r} names a GPU twice")
        return cls(Device(found[1]), gpus)

    @property
    def is_binding(self) -> bool:
        """Whether a GPU was asked for by name, so that nothing may run in its place."""
        return self.device in (Device.CUDA, Device.TENSORRT)

    def __str__(self) -> str:
        return self.device.value + (f":{','.join(map(str, self.gpus))}" if self.gpus else "")


@dataclass(frozen=True, slots=True)
class Gpus:
    """The GPUs that models may use, by CUDA's numbers; `missing` says why there is none.

    With `tensorrt` the models that name no accelerator of their own have TensorRT execute what it
    can, and CUDA the rest. `own` are those that this process drives; None: all of them.
    """

    ids: tuple[int, ...] = ()
    missing: str = "nobody has looked for any"
    tensorrt: bool = False
    own: tuple[int, ...] | None = None

    def __str__(self) -> str:
        return ", ".join(map(str, self.ids)) or f"none ({self.missing})"


NONE: Final = Gpus()
