"""A file that others publish: where it is to be had, and how to know that it is the right one."""

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class RemoteFile:
    name: str
    size: int
    sha256: str
    urls: tuple[str, ...]  # mirrors, in the order in which they are asked


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
