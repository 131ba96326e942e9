"""What lies in a model's folder, told without reading the files: nothing new, nothing to reopen."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from serving.engine.repository import CONFIG_FILENAME, ModelFolder, is_version

# A file's path and what changes with its content: size, time of modification (nanoseconds), inode;
# and its mode, as a file that could not be read may become one that can.
Stamp: TypeAlias = tuple[str, int, int, int, int]
Stamps: TypeAlias = frozenset[Stamp]


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A model's folder at one moment; equal to a later one if no file has changed since.

    `config` is config.pbtxt, its text and its stamp, `shared` what lies beside it for all versions,
    such as label files, `versions` what lies in the folder of each.
    """

    place: str
    config: tuple[str | None, Stamp]
    shared: Stamps
    versions: Mapping[int, Stamps]


def take(folder: ModelFolder) -> Snapshot:
    """The snapshot of `folder`; to be taken before any file is opened.

    Then what changes while it is read makes the next snapshot another one.
    """
    return Snapshot(
        folder.place,
        (folder.config_text, _stamp(os.fspath(folder.path), CONFIG_FILENAME, folder.path)),
        _stamps(folder.path, folder.repository, beside_versions=True),
        {
            version: _stamps(folder.version_path(version), folder.repository)
            for version in folder.versions
        },
    )


def _stamps(root: Path, repository: Path, beside_versions: bool = False) -> Stamps:
    """Of every file below `root`, hidden ones aside; links are followed inside `repository`."""
    stamps = set()
    seen = set()
    for place, folders, files in os.walk(root, followlinks=True):
        at_root = beside_versions and place == os.fspath(root)
        status = _status(place)
        if status is None or (status.st_dev, status.st_ino) in seen:
            folders.clear()  # gone, or a link back to where we were
            continue
        seen.add((status.st_dev, status.st_ino))
        folders[:] = [
            name
            for name in folders
            if name[0] != "."
            and not (at_root and is_version(name))
            and _stays(os.path.join(place, name), repository)
        ]
        stamps |= {
            _stamp(place, name, root)
            for name in files
            if name[0] != "." and not (at_root and name == CONFIG_FILENAME)
        }
    return frozenset(stamps)


def _stays(folder: str, repository: Path) -> bool:
    return not os.path.islink(folder) or Path(folder).resolve().is_relative_to(repository.resolve())


def _stamp(place: str, name: str, root: Path) -> Stamp:
    path = os.path.join(place, name)
    below = os.path.relpath(path, root)
    status = _status(path)
    if status is None:
        return below, 0, 0, 0, 0
    return below, status.st_size, status.st_mtime_ns, status.st_ino, status.st_mode


def _status(path: str) -> os.stat_result | None:
    try:
        return os.stat(path)
    except OSError:  # it has just been removed, or is a link to nowhere
        return None
