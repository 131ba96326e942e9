"""Keeps processes from outliving those that started them."""

import ctypes
import os
import signal
import sys
from typing import Final

# Of prctl(2): the signal that a process gets when the one that made it has gone.
_PR_SET_PDEATHSIG: Final = 1


def end_with(parent: int) -> None:
    """Have this process, a new child of `parent`, stop as soon as that has gone: on Linux."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        os._exit(1)  # it has gone before it could be watched
