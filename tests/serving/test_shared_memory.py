"""Regions of shared memory: every bound is checked, and nothing that a client does to its memory
afterwards can break more than its own requests."""

import contextlib
import errno
import gc
import os
import resource
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving.errors import AlreadyExists, InvalidArgument, NotFound, Overloaded, Unavailable
from serving.shared_memory import MAX_REGIONS, OBJECTS, Regions

SIZE = 64
CONTENT = bytes(range(SIZE))

pytestmark = pytest.mark.skipif(not OBJECTS.is_dir(), reason=f"no {OBJECTS} here")
either_way = pytest.mark.parametrize("mapped", [False, True], ids=["copied", "mapped"])


@pytest.fixture(scope="module")
def path() -> Iterator[Path]:
    """A shared-memory object, as the file that Linux makes of it."""
    path = OBJECTS / f"penstock-test-{os.getpid()}"
    path.write_bytes(CONTENT)
    yield path
    path.unlink(missing_ok=True)


@pytest.fixture
def key(path: Path) -> str:
    path.write_bytes(CONTENT)
    return f"/{path.name}"


def registered(
    key: str, offset: int = 0, byte_size: int = SIZE, *, mapped: bool = False
) -> Regions:
    regions = Regions(mapped=mapped)
    regions.register("r", key, offset, byte_size)
    return regions


def open_descriptors(path: Path) -> int:
    """How many of this process lead to the object, which may have been unlinked."""
    found = 0
    for link in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found += os.readlink(link).startswith(str(path))
    return found


def test_what_was_registered_is_known_until_it_is_unregistered(key: str) -> None:
    regions = registered(key, 4, 8)
    regions.register("a", key, 0, 1)
    found = [(one.name, one.key, one.offset, one.byte_size) for one in regions.all()]
    assert found == [("a", key, 0, 1), ("r", key, 4, 8)]
    regions.unregister("r")
    regions.unregister("nobody")
    assert [one.name for one in regions.all()] == ["a"]
    with pytest.raises(NotFound, match=r"^Unable to find shared memory region: 'r'$"):
        regions.find("r")
    regions.clear()
    assert regions.all() == []


def test_a_name_is_taken_once(key: str) -> None:
    regions = registered(key)
    with pytest.raises(AlreadyExists, match=r"^shared memory region 'r' already in manager$"):
        regions.register("r", key, 0, 1)
    regions.unregister("r")
    regions.register("r", key, 0, 1)


def test_a_key_may_lack_its_slash(key: str) -> None:
    assert bytes(registered(key[1:]).find("r").read(0, SIZE)) == CONTENT


@pytest.mark.parametrize(
    "key",
    [
        *("", "/", "/nobody-has-this", "//x", "/a/b", "/" + "x" * 256, "x\0y"),
        *("/etc/passwd", "../../etc/passwd", "/../shm", "..", "."),
    ],
)
def test_a_key_names_an_object_and_nothing_else(key: str) -> None:
    with pytest.raises(InvalidArgument, match=r"^Unable to open shared memory region: '"):
        registered(key, 0, 1)


@either_way
@pytest.mark.parametrize("kind", ["link", "folder", "pipe"])
def test_only_shared_memory_is_opened(mapped: bool, path: Path, kind: str) -> None:
    other = path.with_name(path.name + "-other")
    try:
        if kind == "link":
            other.symlink_to(path)
        elif kind == "folder":
            other.mkdir()
        else:
            os.mkfifo(other)
        with pytest.raises(InvalidArgument, match=r"^Unable to open shared memory region: '"):
            registered(other.name, 0, 1, mapped=mapped)
    finally:
        other.rmdir() if kind == "folder" else other.unlink()


@either_way
@pytest.mark.parametrize(
    ("offset", "byte_size"),
    [(0, SIZE + 1), (SIZE, 1), (1, SIZE), (0, 0), (2**63, 2**63), (2**64 - 1, 2), (-1, 2)],
)
def test_a_region_lies_within_its_object(
    mapped: bool, key: str, path: Path, offset: int, byte_size: int
) -> None:
    gc.collect()  # what tests before this one have left
    before = open_descriptors(path)
    with pytest.raises(InvalidArgument, match=r"failed to register shared memory region 'r'"):
        registered(key, offset, byte_size, mapped=mapped)
    gc.collect()
    assert open_descriptors(path) == before


@either_way
def test_a_region_reads_and_writes_what_it_covers(mapped: bool, key: str, path: Path) -> None:
    region = registered(key, 8, 16, mapped=mapped).find("r")
    assert bytes(region.read(4, 3)) == CONTENT[12:15]
    region.write(15, memoryview(b"!"))
    assert path.read_bytes() == CONTENT[:23] + b"!" + CONTENT[24:]


def test_what_finds_no_memory_to_be_copied_to_is_refused(key: str, path: Path) -> None:
    size = 2**60  # more than any process can address, of which an empty object takes none
    os.truncate(path, size)
    region = registered(key, 0, size).find("r")
    with pytest.raises(Overloaded, match=f"^no memory for {size} bytes of .* region 'r'$"):
        region.read(0, size)


def test_what_finds_no_memory_to_be_written_to_is_told(key: str, path: Path) -> None:
    region = registered(key).find("r")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (SIZE // 2, limits[1]))
    try:
        with pytest.raises(Unavailable, match=r"^shared memory region 'r' cannot be written: "):
            region.write(0, memoryview(bytes(SIZE)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@either_way
def test_what_was_read_stays_as_it_was_unless_it_is_mapped(
    mapped: bool, key: str, path: Path
) -> None:
    read = registered(key, mapped=mapped).find("r").read(0, SIZE)
    with path.open("r+b") as file:
        file.write(bytes(SIZE))
    assert bytes(read) == (bytes(SIZE) if mapped else CONTENT)


@either_way
@given(
    start=st.integers(0, SIZE - 1),
    length=st.integers(1, SIZE),
    offset=st.integers(0, 2 * SIZE) | st.integers(0, 2**64),
    byte_size=st.integers(0, 2 * SIZE) | st.integers(0, 2**64),
)
@settings(max_examples=300)
def test_no_access_leaves_its_region(
    mapped: bool, path: Path, start: int, length: int, offset: int, byte_size: int
) -> None:
    path.write_bytes(CONTENT)
    length = min(length, SIZE - start)
    region = registered(path.name, start, length, mapped=mapped).find("r")
    if offset + byte_size <= length:
        at = slice(start + offset, start + offset + byte_size)
        assert bytes(region.read(offset, byte_size)) == CONTENT[at]
        region.write(offset, memoryview(bytes(byte_size)))
        expected = CONTENT[: at.start] + bytes(byte_size) + CONTENT[at.stop :]
    else:
        with pytest.raises(InvalidArgument, match=r"^Invalid offset"):
            region.read(offset, byte_size)
        expected = CONTENT
    assert path.read_bytes() == expected


@either_way
def test_an_object_that_was_cut_short_is_an_error_and_stays_short(
    mapped: bool, key: str, path: Path
) -> None:
    region = registered(key, mapped=mapped).find("r")
    os.truncate(path, 10)
    assert bytes(region.read(0, 10)) == CONTENT[:10]
    for access in (lambda: region.read(8, 4), lambda: region.write(8, memoryview(b"1234"))):
        with pytest.raises(InvalidArgument, match=r"no longer as large as when it was registered"):
            access()
    assert path.stat().st_size == 10


@either_way
def test_an_object_that_was_unlinked_is_still_there(mapped: bool, key: str, path: Path) -> None:
    region = registered(key, mapped=mapped).find("r")
    path.unlink()
    assert bytes(region.read(0, SIZE)) == CONTENT


@either_way
def test_a_region_in_use_outlives_its_registration(mapped: bool, key: str, path: Path) -> None:
    before = open_descriptors(path)
    regions = registered(key, mapped=mapped)
    region = regions.find("r")
    regions.clear()
    region.write(0, memoryview(b"late"))
    assert path.read_bytes()[:4] == b"late"
    del region
    assert open_descriptors(path) == before


@either_way
def test_nothing_is_left_open(mapped: bool, key: str, path: Path) -> None:
    before = open_descriptors(path)
    regions = Regions(mapped=mapped)
    for index in range(10):
        regions.register(str(index), key, 0, SIZE)
    assert open_descriptors(path) == before + 10
    regions.clear()
    assert open_descriptors(path) == before


def test_a_region_that_finds_no_room_among_the_open_files_is_refused(
    key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(os, "dup", full)
    with pytest.raises(InvalidArgument, match=f"'{key}': Too many open files"):
        Regions().register("r", key, 0, 16)


def test_there_are_only_so_many_regions(key: str) -> None:
    regions = Regions()
    for index in range(MAX_REGIONS):
        regions.register(str(index), key, 0, SIZE)

    with pytest.raises(Overloaded, match="1024 shared memory regions are registered"):
        regions.register("one more", key, 0, SIZE)
    regions.unregister("0")
    regions.register("one more", key, 0, SIZE)
    regions.clear()
