"""What one process at a time may do, for as long as it lives."""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

# What file systems say that cannot lock: on such a one everybody has to look after it alone.
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP)


@contextmanager
def held(path: Path, wait: bool = False) -> Iterator[None]:
    """For the block, `path` is nobody else's, by a hidden file beside it.

    Raises BlockingIOError while another process has it, unless that is waited for, and OSError
    where the folder cannot be written."""
    lock = path.with_name(f".{path.name}.lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor = _locked(lock, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    try:
        yield
    finally:
        # As long as it is held, lest the one that the next process holds be removed.
        lock.unlink(missing_ok=True)
        os.close(descriptor)


def _locked(path: Path, how: int) -> int:
    """A descriptor of the file, which nobody else has locked; BlockingIOError if somebody has."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, how)
            # Whoever held it before may have removed it since it was opened.
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), path.stat()):
                    return descriptor
        except OSError as error:
            if error.errno in _NO_LOCKS:
                return descriptor
            os.close(descriptor)
            raise
        except BaseException:  # Ctrl-C while it waits
            os.close(descriptor)
            raise
        os.close(descriptor)
