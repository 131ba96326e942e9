"""Where the weights of an ONNX file may be outside of it: in the version's folder, nowhere else."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from serving.errors import LoadFailed

# Where weights in memory are said to be, which a file could say of any address.
_MEMORY: Final = "*/_ORT_MEM_ADDR_/"


def check(path: Path, places: Iterable[bytes]) -> None:
    """LoadFailed unless all `places` that the model at `path` states are in its folder.

    Releases of ONNX Runtime before 1.24 open any file, by any path and link."""
    # A model may be a link itself, with its weights beside what it leads to.
    folders = (path.parent.resolve(), path.resolve().parent)
    for place in sorted(map(os.fsdecode, places)):
        if not _inside(path.parent, place, folders):
            raise LoadFailed(
                f"{path}: its weights are in the file {place}, which leaves the version's folder: "
                "save the model with its weights beside it"
            )


def _inside(folder: Path, place: str, folders: Iterable[Path]) -> bool:
    if os.path.isabs(place) or place.startswith(_MEMORY):
        return False
    try:
        found = (folder / place).resolve()
    except (OSError, RuntimeError, ValueError):  # links in a circle, bytes that no path has
        return False
    return any(found.is_relative_to(each) for each in folders)
