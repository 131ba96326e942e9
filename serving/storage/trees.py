"""Folders that models are read from: made once, never changed, gone when nobody reads them."""

import fcntl
import os
import shutil
import uuid
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Final

from serving.storage.cache import Stamp, stamp


class Tree:
    """A folder of links to files of the cache, removed with the last reference to this object."""

    lasts: Final = True

    def __init__(self, among: "Trees", path: Path, files: Mapping[str, Path]) -> None:
        self.path = path
        self._among = among
        # Whatever becomes of what follows.
        weakref.finalize(self, shutil.rmtree, path, ignore_errors=True)
        self._stamps: dict[Path, Stamp] = {}
        path.mkdir()
        for name, file in files.items():
            link = path / name
            link.parent.mkdir(parents=True, exist_ok=True)
            os.link(file, link)
            self._stamps[link] = stamp(link)

    def is_intact(self) -> bool:
        """Whether nobody has removed or written to a file of it."""
        try:
            return all(stamp(link) == known for link, known in self._stamps.items())
        except OSError:
            return False


class Trees:
    """This process's trees, in a folder of its own below `root`."""

    def __init__(self, root: Path) -> None:
        _sweep(root)
        self._path = root / uuid.uuid4().hex
        # Held as long as this process lives: the others see by it whose trees are left over.
        lock = _lock_file(self._path).open("xb")
        fcntl.flock(lock, fcntl.LOCK_EX)
        self._path.mkdir()
        weakref.finalize(self, _remove, self._path, lock)

    def grow(self, files: Mapping[str, Path]) -> Tree:
        """A new tree of `files`, by their names in it; OSError if the disk does not let it."""
        return Tree(self, self._path / uuid.uuid4().hex, files)


def _lock_file(folder: Path) -> Path:
    return folder.with_suffix(".lock")


def _sweep(root: Path) -> None:
    """Remove the trees of processes that were killed."""
    for folder in filter(Path.is_dir, root.iterdir()):
        try:
            with _lock_file(folder).open("rb") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _remove(folder, lock)
        except (BlockingIOError, FileNotFoundError):
            continue  # in use, or somebody else has just swept it


def _remove(folder: Path, lock: IO[bytes]) -> None:
    with lock:
        shutil.rmtree(folder, ignore_errors=True)
        _lock_file(folder).unlink(missing_ok=True)
