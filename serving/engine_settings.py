"""What executes the models: this process, or Triton servers that it stands in front of."""

import re
import sys
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Final

import click

from serving.devices import Wish
from serving.flags import flag
from serving.threads import processors

# HOST:PORT, an IPv6 address in brackets as everywhere.
_ADDRESS: Final = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^\s:/\[\],]+):(\d{1,5})")
_MAX_PORT: Final = 65535
_AUTO: Final = "auto"


class EngineKind(Enum):
    """What executes the models.

    `embedded` this process, by ONNX Runtime; `triton` the servers of `--triton-url`, over gRPC.
    """

    EMBEDDED = "embedded"
    TRITON = "triton"


class Fitting(int):
    """A number that nobody chose, by the processors alone: whoever knows more may take another."""


class _Workers(click.IntRange):
    """A number of processes; `auto` is the one that suits the processors of this one."""

    def convert(self, value: Any, param: Any, ctx: Any) -> int:
        if value == _AUTO:
            # Elsewhere no port is shared out to processes.
            return Fitting(processors().for_workers if sys.platform == "linux" else 0)
        workers: int = super().convert(value, param, ctx)
        return workers


class AcceleratorBuild(Enum):
    """When TensorRT's engines are built.

    `background` while the model serves on CUDA, which is then swapped for them if their answers
    are its own; `load` while the load waits for them, which compares nothing.
    """

    BACKGROUND = "background"
    LOAD = "load"


def addresses(text: str) -> str:
    """`text`, if it is a list HOST:PORT[,HOST:PORT...]; BadParameter for anything else."""
    for one in text.split(","):
        found = _ADDRESS.fullmatch(one)
        if found is None or not _is_name(found[1]) or not 0 < int(found[2]) <= _MAX_PORT:
            raise click.BadParameter(f"{one!r} is not HOST:PORT, the gRPC port of a Triton server")
    return text


def _is_name(host: str) -> bool:
    """Whether `host` can be looked up at all: none of its parts is empty or too long."""
    try:
        host.encode("idna")
    except UnicodeError:
        return False
    return True


def device(text: str | Wish) -> Wish:
    """What `text` asks for; BadParameter for anything that is no device."""
    try:
        return Wish.of(str(text))  # click converts defaults as well
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


@dataclass(frozen=True, kw_only=True)
class EngineSettings:
    """Which engine, and where it is."""

    engine: EngineKind = field(
        default=EngineKind.EMBEDDED,
        metadata=flag(
            "What executes the models: this process (embedded), or the Triton servers of "
            "--triton-url.",
            click.Choice(EngineKind, case_sensitive=False),
        ),
    )
    device: Wish = field(
        default=Wish(),
        metadata=flag(
            "What executes the models whose config.pbtxt leaves it open: a GPU where there is one, "
            "else the CPU (auto), the CPU alone (cpu), or GPUs, without which the server does not "
            "start: cuda, cuda:N[,M...] for those alone, or tensorrt. See docs/gpu.md.",
            device,
        ),
    )
    accelerator_build: AcceleratorBuild = field(
        default=AcceleratorBuild.BACKGROUND,
        metadata=flag(
            "When TensorRT's engines are built: while the model serves on CUDA (background), or "
            "while its load waits (load). See docs/gpu.md.",
            click.Choice(AcceleratorBuild, case_sensitive=False),
        ),
    )
    triton_url: tuple[str, ...] = field(
        default=(),
        metadata=flag(
            "HOST:PORT[,HOST:PORT...]: the gRPC ports of Triton servers; may be given several "
            "times. A name stands for all of its addresses, which are looked up again and again.",
            addresses,
            multiple=True,
        ),
    )
    workers: int = field(
        default=0,
        metadata=flag(
            "Processes that parse requests and write answers, beside one that executes the models "
            "for all of them; 0: one process does everything; auto: none below four processors, "
            "with GPUs or with Triton servers, or else one for every two processors, four at most. "
            "See docs/workers.md.",
            _Workers(0, 64),
            default=_AUTO,
        ),
    )
    engines: int = field(
        default=0,
        metadata=flag(
            "Processes that execute the models, beside --workers, each with its share of the GPUs "
            "and processors; 0: one for each GPU that models are placed on, or else one.",
            click.IntRange(0, 64),
        ),
    )
    hang_timeout_secs: int = field(
        default=30,
        metadata=flag(
            "Seconds for which a process of --workers may not turn its event loop before it is "
            "killed and another started; 0: for ever.",
            click.IntRange(0),
        ),
    )
    busy_poll_micros: int = field(
        default=0,
        metadata=flag(
            "Microseconds for which the server looks for further requests after each answer rather "
            "than let its processor sleep, which takes time to wake up; 0: none. See "
            "docs/batching.md.",
            click.IntRange(0, 1_000_000),
        ),
    )
    gateway_batching: bool = field(
        default=False,
        metadata=flag(
            "Whether requests are gathered into batches before they go to --triton-url, for models "
            "that take batches and whose configuration there asks for no scheduler.",
            bool,
        ),
    )

    def __post_init__(self) -> None:
        if (self.engine is EngineKind.TRITON) != bool(self.triton_url):
            raise click.UsageError("--engine=triton and --triton-url need each other.")
        if self.gateway_batching and self.engine is not EngineKind.TRITON:
            raise click.UsageError(
                "--gateway-batching is for --engine=triton; this process batches what it executes."
            )
        if self.engines > 1 and not self.workers:
            raise click.UsageError("--engines needs --workers, which spread requests over them.")
        if self.engines > 1 and self.engine is EngineKind.TRITON:
            raise click.UsageError("--engines is for models that are executed here.")
        if self.workers and sys.platform != "linux":
            raise click.UsageError("--workers needs Linux, which shares a port out to processes.")

    @property
    def triton_servers(self) -> tuple[str, ...]:
        """The servers of `--triton-url`, each HOST:PORT once."""
        return tuple(dict.fromkeys(one for text in self.triton_url for one in text.split(",")))
