"""A data file, wherever it is: the user's folder, then our cache, then the network.

A file in the user's folder is theirs: if it is corrupt we say so and touch nothing. A file in the
cache is ours: if it is corrupt we fetch it again. Whatever is returned matches its SHA-256.
"""

import os
from pathlib import Path

import platformdirs

from training.data.remote import RemoteFile, mismatch
from training.errors import DataError

DATA_VARIABLE = "PENSTOCK_DATA"
CACHE_VARIABLE = "PENSTOCK_CACHE"


def fetch(dataset: str, file: RemoteFile, data_dir: Path | None = None) -> Path:
    """`data_dir` defaults to the environment variable PENSTOCK_DATA, if that is set."""
    if theirs := find(dataset, file, data_dir):
        return theirs
    ours = cache_dir() / dataset / file.name
    if ours.is_file() and mismatch(ours, file) is None:
        return ours
    from training.data.download import download

    try:
        download(file, ours)
    except DataError as error:
        raise DataError(
            f"{error}\nOr fetch {file.name} by other means, and name its folder with --data-dir "
            f"or {DATA_VARIABLE}."
        ) from error
    return ours


def find(dataset: str, file: RemoteFile, data_dir: Path | None = None) -> Path | None:
    """The file in the user's folder, by default the one that PENSTOCK_DATA names; None where there
    is no such folder named, or no such file in it. DataError if it is corrupt."""
    if data_dir is None and (named := os.environ.get(DATA_VARIABLE)):
        data_dir = Path(named)
    return _find(data_dir, dataset, file) if data_dir is not None else None


def cache_dir() -> Path:
    if named := os.environ.get(CACHE_VARIABLE):
        return Path(named)
    return platformdirs.user_cache_path("penstock") / "data"


def _find(data_dir: Path, dataset: str, file: RemoteFile) -> Path | None:
    if not data_dir.is_dir():
        raise DataError(
            f"{data_dir}: no such folder. --data-dir (or {DATA_VARIABLE}) names the folder with "
            f"{file.name} or {dataset}/{file.name}; leave it out to download the data."
        )
    for path in (data_dir / dataset / file.name, data_dir / file.name):
        if path.is_file():
            if problem := mismatch(path, file):
                raise DataError(
                    f"{path}: {problem}. Replace it with {file.urls[0]}, or leave out --data-dir "
                    f"(and unset {DATA_VARIABLE}) to have it downloaded."
                )
            return path
    return None
