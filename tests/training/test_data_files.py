"""Where a data file is taken from, and what happens on the way."""

import fcntl
import hashlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from threading import Event, Semaphore

import pytest

from tests.training.mirror import Mirror, serve
from training.data.files import DATA_VARIABLE, cache_dir, fetch
from training.data.remote import RemoteFile
from training.errors import DataError

CONTENT = bytes(range(256)) * 2000
UNREACHABLE = "http://127.0.0.1:9/"  # the discard port: nobody listens

Start = Callable[[Mirror], Mirror]


@pytest.fixture
def start() -> Iterator[Start]:
    with ExitStack() as stack:
        yield lambda mirror: stack.enter_context(serve(mirror))


def remote(*mirrors: Mirror | str) -> RemoteFile:
    bases = [mirror if isinstance(mirror, str) else mirror.url for mirror in mirrors]
    digest = hashlib.sha256(CONTENT).hexdigest()
    return RemoteFile("letters.gz", len(CONTENT), digest, tuple(f"{b}letters.gz" for b in bases))


def put(path: Path, content: bytes = CONTENT) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def cached(suffix: str = "") -> Path:
    return cache_dir() / "letters" / f"letters.gz{suffix}"


def test_the_folder_of_the_data_set_is_looked_at_first(tmp_path: Path) -> None:
    wanted = put(tmp_path / "data" / "letters" / "letters.gz")
    put(tmp_path / "data" / "letters.gz")
    put(cached())
    assert fetch("letters", remote(UNREACHABLE), tmp_path / "data") == wanted


def test_the_data_folder_itself_is_looked_at_second(tmp_path: Path) -> None:
    wanted = put(tmp_path / "data" / "letters.gz")
    put(cached())
    assert fetch("letters", remote(UNREACHABLE), tmp_path / "data") == wanted


def test_the_environment_names_the_data_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = put(tmp_path / "data" / "letters.gz")
    monkeypatch.setenv(DATA_VARIABLE, str(tmp_path / "data"))
    assert fetch("letters", remote(UNREACHABLE)) == wanted


def test_the_cache_is_looked_at_third(tmp_path: Path) -> None:
    wanted = put(cached())
    assert fetch("letters", remote(UNREACHABLE), tmp_path) == wanted


def test_what_is_nowhere_is_downloaded_into_the_cache(start: Start, tmp_path: Path) -> None:
    mirror = start(Mirror(CONTENT))
    path = fetch("letters", remote(mirror), tmp_path)
    assert path == cached()
    assert path.read_bytes() == CONTENT
    assert [entry.name for entry in path.parent.iterdir()] == ["letters.gz"]


def test_a_download_shows_its_progress(start: Start, capsys: pytest.CaptureFixture[str]) -> None:
    fetch("letters", remote(start(Mirror(CONTENT))))
    shown = capsys.readouterr().err
    assert "letters.gz" in shown
    assert "512.0/512.0 kB" in shown


def test_a_second_fetch_does_not_ask_the_network(start: Start) -> None:
    mirror = start(Mirror(CONTENT))
    fetch("letters", remote(mirror))
    fetch("letters", remote(mirror))
    assert len(mirror.ranges) == 1


def test_a_partial_file_is_resumed(start: Start) -> None:
    put(cached(".part"), CONTENT[:1000])
    mirror = start(Mirror(CONTENT))
    assert fetch("letters", remote(mirror)).read_bytes() == CONTENT
    assert mirror.ranges == ["bytes=1000-"]


class Slow(Mirror):
    """Tells of who asks, and answers when it may."""

    def __init__(self) -> None:
        super().__init__(CONTENT)
        self.came, self.go = Semaphore(0), Event()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        self.came.release()
        self.go.wait(30)
        super().answer(request)


def test_what_another_process_downloads_is_waited_for(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    mirror, lock = Slow(), fcntl.flock
    file = remote(start(mirror))

    def told(descriptor: int, how: int) -> None:
        mirror.came.release()
        lock(descriptor, how)

    with ThreadPoolExecutor(2) as processes:
        first = processes.submit(fetch, "letters", file)
        assert mirror.came.acquire(timeout=30)
        monkeypatch.setattr(fcntl, "flock", told)
        second = processes.submit(fetch, "letters", file)
        assert mirror.came.acquire(timeout=30)  # it waits, or asks as well
        mirror.go.set()
        assert first.result().read_bytes() == second.result().read_bytes() == CONTENT
    assert mirror.ranges == [None]


def test_a_broken_connection_is_resumed_where_it_broke(start: Start) -> None:
    mirror = start(Mirror(CONTENT, cut_after=100_000))
    assert fetch("letters", remote(mirror)).read_bytes() == CONTENT
    assert mirror.ranges == [None, "bytes=100000-"]


def test_a_server_that_ignores_the_range_is_read_from_the_start(start: Start) -> None:
    put(cached(".part"), CONTENT[:1000])
    mirror = start(Mirror(CONTENT, honours_range=False))
    assert fetch("letters", remote(mirror)).read_bytes() == CONTENT
    assert mirror.ranges == ["bytes=1000-"]


def test_a_partial_file_with_wrong_bytes_is_thrown_away(start: Start) -> None:
    put(cached(".part"), b"x" * 1000)
    mirror = start(Mirror(CONTENT))
    assert fetch("letters", remote(mirror)).read_bytes() == CONTENT
    assert mirror.ranges == ["bytes=1000-", None]


def test_a_complete_partial_file_needs_no_network() -> None:
    put(cached(".part"))
    assert fetch("letters", remote(UNREACHABLE)).read_bytes() == CONTENT


def test_a_partial_file_longer_than_the_whole_is_thrown_away(start: Start) -> None:
    put(cached(".part"), CONTENT + b"x")
    mirror = start(Mirror(CONTENT))
    assert fetch("letters", remote(mirror)).read_bytes() == CONTENT
    assert mirror.ranges == [None]


@pytest.mark.parametrize("status", [404, 416, 500, 503])
def test_after_a_refusal_the_next_mirror_is_asked(start: Start, status: int) -> None:
    refusing, willing = start(Mirror(b"", status=status)), start(Mirror(CONTENT))
    assert fetch("letters", remote(refusing, willing)).read_bytes() == CONTENT


def test_after_a_corrupt_download_the_next_mirror_is_asked(start: Start) -> None:
    lying, honest = start(Mirror(CONTENT[::-1])), start(Mirror(CONTENT))
    assert fetch("letters", remote(lying, honest)).read_bytes() == CONTENT


def test_a_corrupt_download_is_never_published(start: Start) -> None:
    lying = start(Mirror(CONTENT[::-1]))
    with pytest.raises(DataError, match=r"its SHA-256 is \w+ instead of"):
        fetch("letters", remote(lying))
    assert list(cached().parent.iterdir()) == []


def test_an_endless_answer_is_cut_off(start: Start) -> None:
    with pytest.raises(DataError, match="instead of 512,000"):
        fetch("letters", remote(start(Mirror(CONTENT * 20))))


def test_offline_the_error_names_file_mirrors_option_and_variable() -> None:
    with pytest.raises(DataError) as raised:
        fetch("letters", remote(UNREACHABLE, "http://127.0.0.1:7/"))
    message = str(raised.value)
    for part in ("letters.gz", f"{UNREACHABLE}letters.gz", ":7/", "--data-dir", "PENSTOCK_DATA"):
        assert part in message


def test_a_corrupt_file_in_the_cache_is_downloaded_again(start: Start) -> None:
    put(cached(), CONTENT[:-1])
    mirror = start(Mirror(CONTENT))
    assert fetch("letters", remote(mirror)).read_bytes() == CONTENT


@pytest.mark.parametrize("content", [CONTENT[:-1], CONTENT[::-1]], ids=["short", "altered"])
def test_a_corrupt_file_of_the_user_is_an_error_and_stays(tmp_path: Path, content: bytes) -> None:
    theirs = put(tmp_path / "letters.gz", content)
    put(cached())
    with pytest.raises(DataError) as raised:
        fetch("letters", remote(UNREACHABLE), tmp_path)
    for part in (str(theirs), "corrupt", "instead of", UNREACHABLE, "--data-dir"):
        assert part in str(raised.value)
    assert theirs.read_bytes() == content


def test_a_data_folder_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    put(cached())
    with pytest.raises(DataError, match="no such folder"):
        fetch("letters", remote(UNREACHABLE), tmp_path / "typo")


def test_a_cache_that_cannot_be_written_is_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PENSTOCK_CACHE", str(put(tmp_path / "file")))
    with pytest.raises(DataError, match="cannot be written"):
        fetch("letters", remote(UNREACHABLE))
