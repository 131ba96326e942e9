"""Files that a configuration names stay in the folder that is theirs."""

from pathlib import PurePosixPath


def leaves_folder(filename: str) -> bool:
    """Whether the relative `filename` points out of the folder it is relative to."""
    path = PurePosixPath(filename)
    return path.is_absolute() or ".." in path.parts or "\0" in filename
