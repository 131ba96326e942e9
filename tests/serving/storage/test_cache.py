"""The cache of fetched objects and the folders made of it outlive nobody who uses them."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pytest

from serving.errors import LoadFailed
from serving.storage.cache import KEEP_SECONDS, Cache
from serving.storage.objects import Object
from serving.storage.trees import Trees

WANTED: Final = Object("s3://bucket", "a/1/x", 7, "etag")
ROOT: Final = Path(__file__).parents[3]


def keep(cache: Cache, wanted: Object = WANTED, content: bytes = b"content") -> Path:
    with cache.partial(wanted) as file:
        file.truncate(0)
        file.write(content)
        cache.keep(wanted, file)
    found = cache.find(wanted)
    assert found
    return found


def age(*paths: Path) -> None:
    for path in paths:
        then = path.stat().st_mtime - KEEP_SECONDS - 1
        os.utime(path, (then, then))


def files(root: Path) -> Mapping[str, list[str]]:
    return {
        folder: [path.name for path in (root / folder).rglob("*") if path.is_file()]
        for folder in ("objects", "known", "partial")
    }


def test_what_is_kept_is_found_by_what_it_is(cache: Path) -> None:
    kept = keep(Cache(cache))
    assert kept.read_bytes() == b"content"
    assert Cache(cache).find(WANTED) == kept
    for other in (
        Object("s3://other", "a/1/x", 7, "etag"),
        Object("s3://bucket", "a/1/y", 7, "etag"),
        Object("s3://bucket", "a/1/x", 8, "etag"),
        Object("s3://bucket", "a/1/x", 7, "another"),
    ):
        assert Cache(cache).find(other) is None
    assert files(cache)["partial"] == []


def test_equal_contents_take_the_space_of_one(cache: Path) -> None:
    kept = keep(Cache(cache))
    inode = kept.stat().st_ino
    assert keep(Cache(cache), Object("s3://bucket", "b/1/x", 7, "other")) == kept
    assert kept.stat().st_ino == inode


def test_who_comes_second_fetches_for_himself(cache: Path) -> None:
    with Cache(cache).partial(WANTED) as first:
        first.write(b"cont")
        first.flush()
        kept = keep(Cache(cache))
        assert kept.read_bytes() == b"content"
        first.write(b"ent")
        Cache(cache).keep(WANTED, first)
    assert Cache(cache).find(WANTED) == kept
    assert kept.read_bytes() == b"content"


def test_what_nobody_asks_for_goes_in_the_end(cache: Path) -> None:
    kept = keep(Cache(cache))
    used = keep(Cache(cache), Object("s3://bucket", "b/1/x", 4, "etag"), b"used")
    with Cache(cache).partial(Object("s3://bucket", "c/1/x", 9, "etag")) as file:
        file.write(b"half")
    tree = Trees(cache / "trees").grow({"a/1/x": used})
    age(kept, used, *(cache / "known").iterdir(), *(cache / "partial").iterdir())
    Cache(cache)
    assert files(cache) == {"objects": [used.name], "known": [], "partial": []}
    assert (tree.path / "a/1/x").read_bytes() == b"used"


def test_what_is_asked_for_stays(cache: Path) -> None:
    running = Cache(cache)
    kept = keep(running)
    age(kept, *(cache / "known").iterdir())
    assert running.find(WANTED) == kept
    Cache(cache)
    assert kept.exists()


def test_a_note_that_is_no_text_any_more_is_one_that_is_not_there(cache: Path) -> None:
    keep(Cache(cache))
    [note] = (cache / "known").iterdir()
    note.write_bytes(b"\xff\xfe")
    assert Cache(cache).find(WANTED) is None
    assert keep(Cache(cache)).read_bytes() == b"content"


def test_without_a_home_another_folder_has_to_be_named() -> None:
    with pytest.raises(LoadFailed, match="--model-repository-cache"):
        Cache(Path("~nobody-of-this-name/cache"))


@pytest.fixture
def trees(cache: Path) -> Path:
    Cache(cache)
    return cache / "trees"


def test_folders_of_a_process_that_was_killed_are_removed_by_the_next(trees: Path) -> None:
    program = (
        "import os, sys; from pathlib import Path; from serving.storage.trees import Trees\n"
        "trees = Trees(Path(sys.argv[1])); tree = trees.grow({}); os._exit(9)"
    )
    subprocess.run([sys.executable, "-c", program, trees], cwd=ROOT, check=False, timeout=60)
    [killed] = filter(Path.is_dir, trees.iterdir())
    mine = Trees(trees)
    tree = mine.grow({})
    Trees(trees)
    assert tree.path.is_dir()
    assert not killed.exists()
    del mine, tree
    assert list(trees.iterdir()) == []
