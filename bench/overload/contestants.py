"""Who is overloaded, and how each is told of the objective, if it can be told at all."""

import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from bench.cases import BINARY, JSON, Request, oip_request, plain_request
from bench.models import Subject
from bench.peers import ours, plain
from bench.peers.base import Running

OURS: Final = "penstock"
FIXED: Final = "fixed-delay"
DELAY: Final = 5000  # microseconds
_DYNAMIC: Final = "dynamic_batching {"


@dataclass(frozen=True, slots=True)
class Contestant:
    """A server; `serve` starts it on a repository, for an objective in milliseconds."""

    name: str
    title: str
    serve: Callable[[Path, float], AbstractContextManager[Running]]
    request: Callable[[Subject], Request]


@contextmanager
def _penstock(repository: Path, objective: float, fixed: bool) -> Iterator[Running]:
    """Ours: with the objective, or as the batcher that has none and waits for company."""
    with TemporaryDirectory(prefix="bench-overload-") as scratch:
        copy = Path(scratch) / "models"
        shutil.copytree(repository, copy)
        file = copy / "mnist" / "config.pbtxt"
        text = file.read_text()
        if fixed:
            delay = f"{_DYNAMIC} max_queue_delay_microseconds: {DELAY}"
            text = text.replace(_DYNAMIC, delay)
        else:
            told = f'key: "latency_objective_ms" value {{ string_value: "{objective:g}" }}'
            text += f"parameters {{ {told} }}\n"
        file.write_text(text)
        # What the other servers do not have either: a limit of the queue.
        flags = ("--max-queue-size=1000000",) if fixed else ()
        with ours.serve(copy, *flags) as running:
            yield running


@contextmanager
def _untold(
    serve: Callable[[Path], AbstractContextManager[Running]], repository: Path, objective: float
) -> Iterator[Running]:
    """A server that knows of no objective."""
    with serve(repository) as running:
        yield running


_OIP: Final = partial(oip_request, BINARY)
_PLAIN: Final = partial(plain_request, JSON)
CONTESTANTS: Final = {
    each.name: each
    for each in (
        Contestant(OURS, "Penstock, told the objective", partial(_penstock, fixed=False), _OIP),
        Contestant(
            FIXED,
            f"fixed delay: Penstock, told nothing, waits {DELAY // 1000} ms for a batch",
            partial(_penstock, fixed=True),
            _OIP,
        ),
        Contestant("litserve", "LitServe, batches", partial(_untold, plain.serve_litserve), _PLAIN),
        Contestant("fastapi", "plain FastAPI", partial(_untold, plain.serve_fastapi), _PLAIN),
    )
}
