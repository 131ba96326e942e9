"""What the C library's allocator does with memory that is free: it keeps some."""

import ctypes
import os
import sys
from typing import Final

_MB: Final = 1024 * 1024
# Of <malloc.h>: from what size on an allocation is a mapping of its own, and how much may be free
# at the end of the heap before it goes back to the system.
_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_THRESHOLD: Final = -3
_MAPPED: Final = 32 * _MB
_KEPT: Final = 64 * _MB
_VARIABLES: Final = ("MALLOC_TRIM_THRESHOLD_", "MALLOC_MMAP_THRESHOLD_", "GLIBC_TUNABLES")


def keep_free_memory() -> None:
    """Let the process keep up to 64 MiB that it has freed, for the next tensors.

    By default glibc returns it as soon as a large body or batch is gone, and to get it back page by
    page costs several times what copying the tensor does. Whoever has set the allocator's own
    variables knows better; other C libraries are left as they are.
    """
    if sys.platform != "linux" or any(map(os.environ.get, _VARIABLES)):
        return
    library = ctypes.CDLL(None)
    if hasattr(library, "mallopt"):
        library.mallopt(_M_MMAP_THRESHOLD, _MAPPED)
        library.mallopt(_M_TRIM_THRESHOLD, _KEPT)
