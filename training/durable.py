"""Files that are on the disk before anything is done that relies on them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


def write(path: Path, data: bytes) -> None:
    """The content; its name is as durable once the folder is synced."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def draft(path: Path) -> Path:
    """Where the next content of `path` is written: a hidden name beside it, thus on the same file
    system, where a rename is atomic; always the same one, so that the next write takes away what a
    killed process has left."""
    return path.with_name(f".{path.name}.draft")


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """The draft of `path`, for the block to write: it takes its place in one step as the block
    ends, and goes where that fails. OSError, before anything else, where there can be none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    made = draft(path)
    try:
        made.touch()
        yield made
        made.replace(path)
    except BaseException:
        with suppress(OSError):
            made.unlink()
        raise


def sync(folder: Path) -> None:
    """Makes the names in `folder` as durable as the files that they stand for."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
