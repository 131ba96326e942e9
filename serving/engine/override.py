"""The files that a load brings along: whether they may be written, and writing them."""

from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Final

from serving.engine.repository import CONFIG_FILENAME, is_version
from serving.errors import InvalidArgument, UnfitOverride

_MOST_PARTS: Final = 32


def check_files(files: Mapping[str, bytes], has_config: bool) -> None:
    """InvalidArgument unless every path of `files` is one inside a model's folder."""
    if files and not has_config:
        raise InvalidArgument(
            "files are given without a configuration: send the parameter 'config' as well"
        )
    for path in files:
        if reason := _fault(path):
            raise InvalidArgument(
                f"file:{path}: {reason}; name a file as VERSION/FILENAME, such as 1/model.onnx, or "
                "one beside the versions, such as labels.txt"
            )


def unpack(files: Mapping[str, bytes], folder: Path) -> None:
    """Write checked `files` below `folder`, which is made; UnfitOverride where that cannot be.

    Such as where two collide, for the length of a name, or as the disk is full.
    """
    for path, content in files.items():
        target = folder / path
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            # What exists is never opened, so that no name can lead elsewhere by it.
            with target.open("xb") as file:
                file.write(content)
        except OSError as error:
            raise UnfitOverride(f"file:{path}: cannot be written: {error.strerror}") from error


def _fault(path: str) -> str:
    """Why `path` is no place for a file of a model; empty if it is one."""
    parts = path.split("/")
    if not path.isprintable() or "\\" in path:
        return "backslashes and control characters are refused"
    if PurePosixPath(path).is_absolute() or any(part in ("", ".", "..") for part in parts):
        return "the path must be relative, without empty parts, '.' and '..'"
    if len(parts) > _MOST_PARTS:
        return f"the path must have at most {_MOST_PARTS} parts"
    if len(parts) == 1:
        return "the parameter 'config' holds the configuration" if path == CONFIG_FILENAME else ""
    return "" if is_version(parts[0]) else f"{parts[0]!r} is not a version"
