"""Names that a server passes over and that somebody may have meant for something."""

import difflib
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, TypeAlias

from serving.engine.backends.ort import DEFAULT_FILENAME
from serving.engine.repository import CONFIG_FILENAME, ModelFolder, is_version

# Where a mistake is, and what it may be.
Mistake: TypeAlias = tuple[Path, str]

_LIKE_A_VERSION: Final = re.compile(r"(?:v|ver|version)?[-_. ]*0*(\d+)(?:\.0)*", re.IGNORECASE)
_NO_VERSION: Final = (
    "no version's folder, as versions are whole numbers from 1 without leading zeros"
)
_ALIKE: Final = 0.75


def in_repository(path: Path) -> Iterator[Mistake]:
    """What lies beside the models and looks like a part of one."""
    files, versions = _files(path), [one for one in _folders(path) if is_version(one.name)]
    if versions and any(file.name == CONFIG_FILENAME for file in files):
        yield path, f"looks like a model's folder: the repository may be {path.parent}"
        return
    for file in files:
        if file.name == CONFIG_FILENAME:
            yield file, f"not in a model's folder: move it to NAME/{CONFIG_FILENAME}"
        elif file.suffix.lower() == ".onnx":
            yield file, f"not in a model's folder: move it to NAME/1/{DEFAULT_FILENAME}"


def in_model(folder: ModelFolder) -> Iterator[Mistake]:
    """What lies in a model's folder under a name that nothing looks for."""
    files = _files(folder.path)
    for file in files:
        if file.suffix.lower() == ".onnx":
            yield file, f"not in a version's folder: move it to 1/{DEFAULT_FILENAME}"
        elif is_version(file.name):
            yield file, "a file, where a version is a folder: move it to the folder's model.onnx"
    if folder.config_text is None:
        yield from _like_a_configuration(files)
    for path in _folders(folder.path):
        like = _LIKE_A_VERSION.fullmatch(path.name)
        if like and not is_version(path.name):
            number = int(like[1])
            is_free = number > 0 and number not in folder.versions
            yield path, f"{_NO_VERSION}: rename it{f' to {number}' if is_free else ''}"


def for_model_file(version: Path, wanted: str) -> Iterator[Mistake]:
    """What a version's folder holds in place of its model file `wanted`, "" wanting none."""
    files = _files(version)
    if not wanted or any(file.name == wanted for file in files):
        return
    for file in files:
        if file.name.lower() == wanted.lower():
            yield file, f"names are told apart by case: rename it to {wanted}"
        elif file.suffix.lower() == ".onnx":
            yield (
                file,
                f"not the file that is served: rename it to {wanted}, or write "
                f'default_model_filename: "{file.name}"',
            )


def _like_a_configuration(files: Iterable[Path]) -> Iterator[Mistake]:
    for file in files:
        likeness = difflib.SequenceMatcher(None, file.name.lower(), CONFIG_FILENAME).ratio()
        if likeness >= _ALIKE:
            yield file, f"not read, as a configuration's name is {CONFIG_FILENAME}: rename it"


def _files(path: Path) -> list[Path]:
    return [entry for entry in _entries(path) if entry.is_file()]


def _folders(path: Path) -> list[Path]:
    return [entry for entry in _entries(path) if entry.is_dir()]


def _entries(path: Path) -> list[Path]:
    try:
        return sorted(path.iterdir())
    except OSError:
        return []  # which is a fault that whoever needs the folder tells of
