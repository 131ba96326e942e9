"""Memory of the host that a GPU reads and writes by itself, without a copy by the driver."""

import ctypes
import logging
import weakref
from math import prod
from typing import Any

import numpy as np

from serving.types import Array

logger = logging.getLogger("penstock.load")

# For every GPU of the process, whichever is the current one as it is made.
_PORTABLE = 1


class PinnedMemory:
    """Makes arrays in pinned memory, by CUDA's runtime library.

    Where that refuses, as it does beyond what the system lets a process pin, arrays are ordinary
    ones: copies are slower, and nothing else changes.
    """

    def __init__(self, library: str, gpu: int = 0) -> None:
        """`library` is what the runtime's file is called, such as `libcudart.so.13`.

        `gpu` is one that the process drives: the runtime takes memory of the current one.
        """
        self._gpu = gpu
        self._runtime: Any = None
        try:
            self._runtime = ctypes.CDLL(library)
        except OSError as error:
            logger.warning("inputs are not copied by pinned memory: %s", error)

    def empty(self, shape: tuple[int, ...], dtype: "np.dtype[Any]") -> Array:
        """An array of that shape, not initialised, and freed with its last view."""
        size = prod(shape) * dtype.itemsize
        if self._runtime is None or not size:
            return np.empty(shape, dtype)
        place = ctypes.c_void_p()
        # A thread's current one is the first of all, until it says otherwise.
        self._runtime.cudaSetDevice(self._gpu)
        result = self._runtime.cudaHostAlloc(
            ctypes.byref(place), ctypes.c_size_t(size), ctypes.c_uint(_PORTABLE)
        )
        if result or place.value is None:
            logger.warning("%d bytes cannot be pinned (CUDA error %d)", size, result)
            return np.empty(shape, dtype)
        memory = (ctypes.c_byte * size).from_address(place.value)
        weakref.finalize(memory, self._runtime.cudaFreeHost, place)
        return np.frombuffer(memoryview(memory), dtype).reshape(shape)
