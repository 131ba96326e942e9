"""The seam between the engine and whatever executes one batch."""

from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from serving.config import CPU, Placement
from serving.types import Array, Signature


class Session(Protocol):
    """A model version, executable.

    `run` is called by one thread at a time, unless the configuration lets instances share one.
    """

    @property
    def signature(self) -> Signature:
        """The graph's own inputs and outputs, `dims` being the whole shape."""

    @property
    def steady(self) -> bool:
        """Whether runs of as many rows take as long, and never wait: past ones foretell them."""

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> list[Array]:
        """Execute one batch; the arrays of `outputs` in that order.

        BYTES inputs and outputs are object arrays of `bytes`, BF16 ones are `uint16` words.
        Raises `serving.errors.Internal` if the execution fails.
        """

    def close(self) -> None:
        """Release what the session holds; once is enough, more often does no harm."""


@runtime_checkable
class StreamingSession(Session, Protocol):
    """A session that gives a request any number of responses, if its model is decoupled."""

    def stream(
        self, inputs: Mapping[str, Array], outputs: Sequence[str]
    ) -> Generator[Sequence[Array], None, None]:
        """Execute one request, in the thread that iterates; of each response the `outputs`.

        Whoever has no more use for the responses closes it between two of them. What it raises
        ends the request, as with `run`.
        """


@runtime_checkable
class StoppableSession(Session, Protocol):
    """A session whose runs need not go on to their end."""

    def stop(self) -> None:
        """Have the run that is under way fail early; for any thread. Without one it does nothing.

        For a session that is run by one thread at a time only.
        """


class Backend(Protocol):
    """Makes sessions. `config` is the `inference.ModelConfig` message as far as it is known."""

    def open(self, config: Any, folder: Path, placement: Placement = CPU) -> Session:
        """A session for the version in `folder`; raises `serving.errors.LoadFailed`.

        One that is to execute on a GPU does so or is refused, and never falls back to the CPU.
        """
