"""Where models are read from: folders of this machine, and whatever copies its own into one."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from serving.errors import LoadFailed


class Copy(Protocol):
    """A folder that a model can be read from for as long as this object is referred to."""

    @property
    def path(self) -> Path:
        """The folder that holds the model's."""

    @property
    def lasts(self) -> bool:
        """Whether it can be read after the load for which it was got."""


class Place(Protocol):
    """A repository; what it is called, str() tells."""

    def models(self) -> list[str]:
        """The names of the folders in it; LoadFailed if it cannot be read."""

    def look(self, name: str) -> Callable[[], Copy] | None:
        """What gets the model `name`, as it is now, to read; None if it is not there."""

    def close(self) -> None:
        """Break off getting models."""


@dataclass(frozen=True, slots=True)
class Folder:
    """A repository in a folder of this machine, in which its models are read."""

    path: Path
    lasts: bool = True

    def __str__(self) -> str:
        return str(self.path)

    def models(self) -> list[str]:
        """As Place has it."""
        return folders(self.path)

    def look(self, name: str) -> Callable[[], Copy] | None:
        """As Place has it."""
        return (lambda: self) if os.path.isdir(self.path / name) else None

    def close(self) -> None:
        """There is nothing to break off."""


def folders(path: Path) -> list[str]:
    """The names of the folders in the folder `path`; LoadFailed as from `listing`."""
    return [name for name, is_folder in listing(path).items() if is_folder]


def listing(path: Path) -> dict[str, bool]:
    """What lies in the folder `path`, by name, and whether it is a folder itself.

    LoadFailed if that cannot be told.
    """
    try:
        return {entry.name: entry.is_dir() for entry in path.iterdir()}
    except FileNotFoundError:
        raise LoadFailed(f"{path}: no such folder; create it, or name another") from None
    except NotADirectoryError:
        raise LoadFailed(f"{path}: is not a folder; name one that holds models") from None
    except OSError as error:
        raise LoadFailed(f"{path}: cannot be read: {error.strerror}") from error
