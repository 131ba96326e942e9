"""How long servers take from their start to the first right answer.

Each is started once more than is counted, and before that: what it compiles of its Python modules
it leaves to the next starts, as servers do that have run before.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Final

from bench.cases import BINARY, Case
from bench.contestants import Server
from bench.lineup import Bench, start_one

FIRST: Final = Case(BINARY, 1)


def measure(
    benches: Mapping[str, Bench], rounds: int, advance: Callable[[], None] = lambda: None
) -> Mapping[str, Sequence[float]]:
    """Start and stop the servers in turns; the seconds of each start but the first, by server.

    `benches` says of each server what it is given.
    """
    seconds: dict[str, list[float]] = {name: [] for name in benches}
    for _ in range(1 + rounds):
        for name, bench in benches.items():
            with ExitStack() as stack:
                server = start_one(bench, name, stack)
                assert isinstance(server, Server)
                server.check(FIRST)
                seconds[name].append(time.monotonic() - server.running.began)
            advance()
    return {name: counted for name, (_, *counted) in seconds.items()}
