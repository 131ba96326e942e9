"""A real Triton server over a repository of ours, for the tests that hold Penstock against it."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from bench.machine import Unavailable
from bench.peers import triton
from bench.peers.base import Running


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
        yield running
