"""The cache of this machine: what was fetched, by its content, for all servers that share it.

    objects/<2>/<sha256>    a file, read-only, named by its SHA-256
    known/<key>             what was fetched as one content of one object, and its SHA-256
    partial/<key>           what was fetched of it so far
    trees/                  the models as they are read, made of links to the objects

What is damaged or was removed is noticed by its SHA-256 and counts as never fetched. A file appears
under its name when it is complete, so that servers may share the cache.
"""

import fcntl
import json
import logging
import os
import re
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import IO, Final, TypeAlias

from serving.errors import LoadFailed
from serving.passport import file_sha256
from serving.storage.objects import Object

logger = logging.getLogger("penstock.storage")

# What no server has asked for in so many seconds may go.
KEEP_SECONDS: Final = 30 * 24 * 3600
_SHA256: Final = re.compile(r"[0-9a-f]{64}")

# What of a file changes when somebody writes to it: size, time of modification, inode.
Stamp: TypeAlias = tuple[int, int, int]


class Cache:
    """A cache in the folder `root`, which is made; for any thread and several processes.

    Its methods raise OSError where the disk does not let them, which `telling` puts in words.
    """

    def __init__(self, root: Path) -> None:
        try:
            self.root = root.expanduser().absolute()
        except RuntimeError as error:
            raise LoadFailed(
                f"{root}: {error}; name a folder for fetched models with --model-repository-cache"
            ) from error
        self.trees = self.root / "trees"
        self._objects = self.root / "objects"
        self._known = self.root / "known"
        self._partial = self.root / "partial"
        self._whole: dict[Path, Stamp] = {}
        with self.telling():
            self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
            for folder in (self.trees, self._objects, self._known, self._partial):
                folder.mkdir(exist_ok=True)
            self.forget_unused()

    @contextmanager
    def telling(self) -> Iterator[None]:
        """Turns OSError in the block into LoadFailed with the cure."""
        try:
            yield
        except OSError as error:
            raise LoadFailed(
                f"the cache of models in {self.root} cannot be used: {error.strerror}: "
                f"{error.filename or 'a file in it'}; give it the space and the permissions that "
                "it needs, or name another folder with --model-repository-cache"
            ) from error

    def find(self, wanted: Object) -> Path | None:
        """The file that holds `wanted`, found whole; None if it has to be fetched."""
        note = self._known / wanted.key
        try:
            path = self._place(json.loads(note.read_bytes())["sha256"])
            if not self._is_whole(path):
                raise ValueError(f"{path} has changed")
            os.utime(note)
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError) as error:
            logger.warning("%s is fetched again: the cache is damaged: %s", wanted.name, error)
            return None
        return path

    @contextmanager
    def partial(self, wanted: Object) -> Iterator[IO[bytes]]:
        """The file, opened to append, that holds what was fetched of `wanted` so far.

        While another process fetches the same, an empty one: nobody waits for anybody.
        """
        path = self._partial / wanted.key
        with path.open("a+b") as file:
            if _claim(file, path):
                yield file
                return
        path = path.with_suffix(f".{uuid.uuid4().hex}")
        with path.open("x+b") as file:
            try:
                yield file
            finally:
                path.unlink(missing_ok=True)

    def keep(self, fetched: Object, file: IO[bytes]) -> None:
        """Put the complete `file` that `partial` gave in place."""
        file.flush()
        os.fsync(file.fileno())
        partial = Path(file.name)
        sha256 = file_sha256(partial)
        path = self._place(sha256)
        path.parent.mkdir(exist_ok=True)
        if path.exists() and self._is_whole(path):
            # Kept as it is: what links to it has not changed.
            partial.unlink()
        else:
            partial.chmod(0o444)
            partial.replace(path)
            self._whole[path] = stamp(path)
        scratch = self._partial / uuid.uuid4().hex
        scratch.write_text(json.dumps(asdict(fetched) | {"sha256": sha256}))
        scratch.replace(self._known / fetched.key)

    def forget_unused(self) -> None:
        """Remove what nobody has asked for in a long time and nobody reads now."""
        for folder in (self._known, self._partial):
            for path in folder.iterdir():
                if _is_old(path):
                    path.unlink(missing_ok=True)
        notes = (_text(note) for note in self._known.iterdir())
        named = {sha256 for note in notes for sha256 in _SHA256.findall(note)}
        for path in self._objects.glob("*/*"):
            if path.name not in named and _is_old(path, links=1):
                path.unlink(missing_ok=True)

    def _place(self, sha256: str) -> Path:
        if not _SHA256.fullmatch(sha256):
            raise ValueError(f"{sha256!r} is no SHA-256")
        return self._objects / sha256[:2] / sha256

    def _is_whole(self, path: Path) -> bool:
        """Whether a file holds what its name says; read again only if it was written to."""
        now = stamp(path)
        if self._whole.get(path) != now:
            if file_sha256(path) != path.name:
                return False
            self._whole[path] = now
        return True


def stamp(path: Path) -> Stamp:
    """The stamp of the file `path`."""
    status = path.stat()
    return status.st_size, status.st_mtime_ns, status.st_ino


def _claim(file: IO[bytes], path: Path) -> bool:
    """Whether nobody else writes to `file`, and it is still the one at `path`."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except (BlockingIOError, FileNotFoundError):
        return False


def _is_old(path: Path, links: int | None = None) -> bool:
    """Whether nothing was done to a file, of just so many links, in a long time."""
    try:
        status = path.stat()
    except FileNotFoundError:  # another server has just removed it
        return False
    return time.time() - status.st_mtime > KEEP_SECONDS and links in (None, status.st_nlink)


def _text(path: Path) -> str:
    """What is in a note, damaged or not; nothing where it has just been removed."""
    try:
        return path.read_text("ascii", errors="replace")
    except FileNotFoundError:
        return ""
