"""A data file, wherever it is: the user's folder, then our cache, then the network.

A file in the user's folder is theirs: if it is corrupt we say so and touch nothing. A file in the
cache is ours: if it is corrupt we fetch it again. Whatever is returned matches its SHA-256.
"""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from training.errors import DataError

DATA_VARIABLE = "PENSTOCK_DATA"
CACHE_VARIABLE = "PENSTOCK_CACHE"


@dataclass(frozen=True, slots=True)
class RemoteFile:
    name: str
    size: int
    sha256: str
    urls: tuple[str, ...]  # mirrors, in the order in which they are asked


def fetch(dataset: str, file: RemoteFile, data_dir: Path | None = None) -> Path:
    """`data_dir` defaults to the environment variable PENSTOCK_DATA, if that is set."""
    if data_dir is None and (named := os.environ.get(DATA_VARIABLE)):
        data_dir = Path(named)
    if data_dir is not None and (theirs := _find(data_dir, dataset, file)):
        return theirs
    ours = cache_dir() / dataset / file.name
    if ours.is_file() and mismatch(ours, file) is None:
        return ours
    from training.data.download import download

    download(file, ours)
    return ours


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


def mismatch(path: Path, file: RemoteFile) -> str | None:
    """How the file on disk differs from what it should be, or None if it does not."""
    try:
        with path.open("rb") as opened:
            size = os.fstat(opened.fileno()).st_size
            digest = hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    if size != file.size:
        return f"corrupt: {size:,} bytes instead of {file.size:,}"
    if digest != file.sha256:
        return f"corrupt: its SHA-256 is {digest} instead of {file.sha256}"
    return None
