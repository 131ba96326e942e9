"""How many connections the system's limit of open files leaves room for, and that it is raised."""

import resource

import pytest

from serving.open_files import allowed_files, files_wanted
from serving.settings import Settings

BOTH = {"http_use_ssl": True, "grpc_use_ssl_mutual": True}


class Limit:
    """The process's limit of open files: what holds, and how far it may be raised."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = (0, 0)
        monkeypatch.setattr(resource, "getrlimit", lambda _: self.now)
        monkeypatch.setattr(resource, "setrlimit", self._set)

    def _set(self, _: int, limit: tuple[int, int]) -> None:
        self.now = limit


@pytest.fixture
def limit(monkeypatch: pytest.MonkeyPatch) -> Limit:
    return Limit(monkeypatch)


@pytest.mark.parametrize(
    ("flags", "wanted"),
    [
        ({}, 256 + 3 * 100),
        ({"allow_metrics": False}, 256 + 2 * 100),
        (BOTH, 256 + (3 + 2) * 100),
        (BOTH | {"allow_grpc": False}, 256 + (2 + 1) * 100),
    ],
    ids=["three ports", "two ports", "handshakes as well", "none where no port is"],
)
def test_each_port_may_have_all_its_connections_and_handshakes(
    flags: dict[str, bool], wanted: int
) -> None:
    assert files_wanted(Settings(max_connections=100, **flags)) == wanted  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ((64, 10_000), (556, 10_000)),
        ((64, 556), (556, 556)),
        ((64, resource.RLIM_INFINITY), (556, resource.RLIM_INFINITY)),
        ((1024, 10_000), (1024, 10_000)),
        ((resource.RLIM_INFINITY, resource.RLIM_INFINITY),) * 2,
    ],
)
def test_the_limit_is_raised_as_far_as_the_connections_need(
    limit: Limit, before: tuple[int, int], after: tuple[int, int]
) -> None:
    limit.now = before
    settings = Settings(max_connections=100)

    assert allowed_files(settings) == settings
    assert limit.now == after


@pytest.mark.parametrize(("hard", "connections"), [(555, 99), (160, 26), (2, 1)])
def test_where_it_cannot_be_each_port_takes_as_many_as_there_is_room_for(
    limit: Limit, caplog: pytest.LogCaptureFixture, hard: int, connections: int
) -> None:
    limit.now = (1, hard)

    assert allowed_files(Settings(max_connections=100)).max_connections == connections
    assert limit.now == (hard, hard)
    assert f"may open {hard} files, and --max-connections=100 wants 556" in caplog.text
