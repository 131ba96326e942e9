"""Which names of objects can be files of a model: those that lead nowhere else, on any machine."""

import unicodedata
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath


def refusals(names: Iterable[str]) -> Mapping[str, str]:
    """Why some of `names`, relative to a folder of files to be, cannot be the names of those.

    What differs by case alone, or by how Unicode writes a letter, is one file on some machines.
    """
    refused: dict[str, str] = {}
    files: dict[str, str] = {}
    folders: dict[str, str] = {}
    for name in sorted(names):
        reason = _fault(name) or _collision(name, files, folders)
        if reason:
            refused[name] = reason
            continue
        files[_folded(name)] = name
        for folder in _above(name):
            folders[_folded(folder)] = folder
    return refused


def _fault(name: str) -> str:
    parts = name.split("/")
    if not name.isprintable() or "\\" in name:
        return "backslashes and control characters are refused"
    if any(part in ("", ".", "..") for part in parts):
        return "it must be relative, without empty parts, '.' and '..'"
    return ""


def _collision(name: str, files: Mapping[str, str], folders: Mapping[str, str]) -> str:
    if other := files.get(_folded(name)):
        return f"it differs from {other!r} by case alone"
    if _folded(name) in folders:
        return "there are objects below it, and a file cannot be a folder as well"
    for folder in _above(name):
        if other := files.get(_folded(folder)):
            return f"{other!r} is an object, and a file cannot be a folder as well"
        other = folders.get(_folded(folder), folder)
        if other != folder:
            return f"its folder differs from {other!r} by case alone"
    return ""


def _above(name: str) -> list[str]:
    return [str(path) for path in PurePosixPath(name).parents][:-1]


def _folded(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()
