"""The seam between the engine and whatever executes one batch."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from serving.types import Array, Signature


class Session(Protocol):
    """A model version, executable.

    `run` is called by one thread at a time, unless the configuration lets instances share one.
    """

    @property
    def signature(self) -> Signature:
        """The graph's own inputs and outputs, `dims` being the whole shape."""

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> list[Array]:
        """Execute one batch; the arrays of `outputs` in that order.

        BYTES inputs and outputs are object arrays of `bytes`, BF16 ones are `uint16` words.
        Raises `serving.errors.Internal` if the execution fails.
        """

    def close(self) -> None:
        """Release what the session holds; once is enough, more often does no harm."""


class Backend(Protocol):
    """Makes sessions. `config` is the `inference.ModelConfig` message as far as it is known."""

    def open(self, config: Any, folder: Path) -> Session:
        """A session for the version in `folder`; raises `serving.errors.LoadFailed`."""
