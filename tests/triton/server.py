"""A real Triton server over a repository of ours, for the tests that hold Penstock against it."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import pytest

from bench.machine import Unavailable
from bench.peers import triton
from bench.peers.base import Running, last_words

# A connection is refused a moment before the process that has crashed is gone.
ENDING_SECONDS: Final = 1.0


def installation() -> triton.Installation:
    """Skips the test, with the reason, where there is no Triton to run."""
    try:
        return triton.installation()
    except Unavailable as reason:
        pytest.skip(str(reason))


@contextmanager
def triton_server(repository: Path, *arguments: str) -> Iterator[Running]:
    """Serves `repository` until the block ends; `arguments` go to tritonserver as they are."""
    installation()
    with ExitStack() as stack:
        try:
            running = stack.enter_context(triton.serve(repository, *arguments))
        except Unavailable as reason:
            pytest.fail(f"Triton: {reason}")
        try:
            yield running
        except Exception as error:
            ended = running.ending(ENDING_SECONDS)
            error.add_note(
                f"Triton {f'ended by {ended}' if ended else 'still runs'}; the end of its log:\n"
                f"{last_words(running.log)}"
            )
            raise
