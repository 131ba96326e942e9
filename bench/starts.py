"""How long servers take from their start to the first right answer."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Final

from bench.cases import BINARY, Case
from bench.contestants import Server
from bench.lineup import Bench, start_one

FIRST: Final = Case(BINARY, 1)


def measure(
    bench: Bench, names: Sequence[str], rounds: int, advance: Callable[[], None] = lambda: None
) -> Mapping[str, Sequence[float]]:
    """Start and stop the servers in turns; the seconds of each start, by server."""
    seconds: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(rounds):
        for name in names:
            with ExitStack() as stack:
                server = start_one(bench, name, stack)
                assert isinstance(server, Server)
                server.check(FIRST)
                seconds[name].append(time.monotonic() - server.running.began)
            advance()
    return seconds
