"""One repository, served by a real Triton and by Penstock, as it is and with Triton's statuses."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conformance.calls import Answer, Call, Connection, connected
from tests.conformance.models import build
from tests.e2e.server import penstock_server
from tests.triton.server import triton_server

# One model of the repository cannot be loaded, which both shall serve around.
FLAGS = ("--exit-on-error=false", "--strict-readiness=false")


@dataclass(frozen=True, slots=True)
class Pair:
    """Both servers; what Triton answered to a call is asked for once."""

    triton: Connection
    ours: Connection
    like_triton: bool
    theirs: Callable[[Call], Answer]


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("repository")
    build(folder)
    return folder


@pytest.fixture(scope="session")
def triton(repository: Path) -> Iterator[Connection]:
    with triton_server(repository, *FLAGS) as address, connected(address) as connection:
        yield connection


@pytest.fixture(scope="session")
def theirs(triton: Connection) -> Callable[[Call], Answer]:
    answers: dict[int, Answer] = {}

    def ask(call: Call) -> Answer:
        if id(call) not in answers:
            answers[id(call)] = call.send(triton)
        return answers[id(call)]

    return ask


@contextmanager
def penstock(repository: Path, *flags: str) -> Iterator[Connection]:
    own = ("--passport-policy=off", "--allow-client-shm=true")
    with (
        penstock_server(*FLAGS, *own, *flags, repository=repository) as address,
        connected(address) as connection,
    ):
        yield connection


@pytest.fixture(scope="session", params=["our statuses", "Triton's statuses"])
def pair(
    request: pytest.FixtureRequest,
    repository: Path,
    triton: Connection,
    theirs: Callable[[Call], Answer],
) -> Iterator[Pair]:
    like_triton = request.param == "Triton's statuses"
    with penstock(repository, f"--triton-status-codes={like_triton}") as ours:
        yield Pair(triton, ours, like_triton, theirs)
