"""Files that are on the disk before anything is done that relies on them."""

import os
from pathlib import Path


def write(path: Path, data: bytes) -> None:
    """The content; its name is as durable once the folder is synced."""
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def sync(folder: Path) -> None:
    """Makes the names in `folder` as durable as the files that they stand for."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
