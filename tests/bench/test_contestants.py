"""A window says what others took of the cores meanwhile."""

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from bench.contestants import watched
from bench.load import Sent
from bench.machine import Cores, cores, cpu_seconds, pinned
from tests.bench import needs

SECONDS = 1.0


@contextmanager
def running(code: str, core: int) -> Iterator[int]:
    """A Python program on a core, by its number."""
    with pinned(core):
        process = subprocess.Popen([sys.executable, "-c", code])
    try:
        yield process.pid
    finally:
        process.kill()
        process.wait()


def sent() -> Sent:
    time.sleep(SECONDS)
    return Sent(SECONDS, 1, 0.0, 0.0, 0, 0.0)


@needs.processors
@pytest.mark.parametrize("side", ["server", "load"])
def test_who_computes_beside_the_server_or_the_load_is_noticed(side: str) -> None:
    both = cores()
    spin = "while True: pass"
    with running("import time; time.sleep(60)", both.server) as server:
        core = both.server if side == "server" else both.load
        with running(spin, core):
            disturbed = watched(sent, server, both)
    # Not all of it, since the machine may have others to serve.
    assert disturbed.others > 0.2


@needs.processors
def test_what_the_server_itself_computes_is_not_others() -> None:
    both = cores()
    alone = Cores(server=both.server, load=both.server)
    with running("while True: pass", both.server) as server:
        before, begun = cpu_seconds(server), time.perf_counter()

        def computed() -> Sent:
            # Where others compute too, it takes a while.
            while cpu_seconds(server) < before + SECONDS:
                time.sleep(0.05)
            return Sent(SECONDS, 1, 0.0, 0.0, 0, 0.0)

        window = watched(computed, server, alone)
        elapsed = time.perf_counter() - begun
    assert window.server > SECONDS / 2
    assert window.others < 1 - window.server / elapsed + 0.1
