"""Memory of the host that a GPU reads and writes by itself, without a copy by the driver."""

import ctypes
import weakref
from math import prod
from typing import Any

import numpy as np

from serving.engine.backends.cuda_runtime import CudaRuntime
from serving.types import Array


class PinnedMemory:
    """Makes arrays in pinned memory, by CUDA's runtime library.

    Where that refuses, as it does beyond what the system lets a process pin, arrays are ordinary
    ones: copies are slower, and nothing else changes.
    """

    def __init__(self, runtime: CudaRuntime, gpu: int = 0) -> None:
        """`gpu` is one that the process drives: the runtime takes memory of the current one."""
        self._runtime = runtime
        self._gpu = gpu

    def empty(self, shape: tuple[int, ...], dtype: "np.dtype[Any]") -> Array:
        """An array of that shape, not initialised, and freed with its last view."""
        size = prod(shape) * dtype.itemsize
        place = self._runtime.pin(size, self._gpu) if size else None
        if place is None:
            return np.empty(shape, dtype)
        memory = (ctypes.c_byte * size).from_address(place)
        weakref.finalize(memory, self._runtime.unpin, place)
        return np.frombuffer(memoryview(memory), dtype).reshape(shape)
