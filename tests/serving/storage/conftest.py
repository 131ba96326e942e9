"""An S3 server for all of these tests, and a bucket for each."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from serving.location import Remote, parse
from serving.storage.mirror import Mirror
from tests.serving.storage.s3 import S3, Bucket

MirrorOf = Callable[[str], Mirror]


@pytest.fixture(scope="session")
def s3() -> Iterator[S3]:
    server = S3()
    yield server
    server.stop()


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Credentials of nobody's, no waiting for a server that is away, and nobody's files."""
    for name, value in {
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_MAX_ATTEMPTS": "1",
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": str(tmp_path / "none"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none"),
    }.items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def bucket(s3: S3) -> Iterator[Bucket]:
    s3.requests.clear()
    made = s3.new_bucket()
    yield made
    s3.hook = None
    made.close()


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def mirror(cache: Path) -> Iterator[MirrorOf]:
    """Makes mirrors over one cache."""
    made: list[Mirror] = []

    def make(url: str) -> Mirror:
        remote = parse(url)
        assert isinstance(remote, Remote)
        made.append(Mirror(remote, cache))
        return made[-1]

    yield make
    for one in made:
        one.close()
