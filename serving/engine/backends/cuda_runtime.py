"""CUDA's runtime library, the one that ONNX Runtime's provider has loaded."""

import ctypes
import logging
import threading
from typing import Any, Final

logger = logging.getLogger("penstock.load")

# For every GPU of the process, whichever is the current one as it is made.
_PORTABLE: Final = 1
# What the recordings of other threads do not concern.
_THREAD_LOCAL: Final = 1


class CudaRuntime:
    """The library of that name, such as `libcudart.so.13`; without it, its calls do nothing."""

    def __init__(self, library: str) -> None:
        self._threads = threading.local()
        self._library: Any = None
        try:
            self._library = ctypes.CDLL(library)
        except OSError as error:
            logger.warning("inputs are not copied by pinned memory: %s", error)

    def enter(self) -> None:
        """Have the calling thread go on where others record a CUDA graph, once for each thread.

        ONNX Runtime records so that CUDA refuses all threads memory and copies meanwhile, and
        spoils the recording, unless they have said that it does not concern them.
        """
        if self._library is None or getattr(self._threads, "has_entered", False):
            return
        self._threads.has_entered = True
        mode = ctypes.c_int(_THREAD_LOCAL)
        if self._library.cudaThreadExchangeStreamCaptureMode(ctypes.byref(mode)):
            self._forget_error()

    def pin(self, size: int, gpu: int) -> int | None:
        """The address of so many bytes that `gpu` reaches by itself; None where there are none."""
        if self._library is None:
            return None
        place = ctypes.c_void_p()
        # A thread's current one is the first of all, until it says otherwise.
        self._library.cudaSetDevice(gpu)
        result = self._library.cudaHostAlloc(
            ctypes.byref(place), ctypes.c_size_t(size), ctypes.c_uint(_PORTABLE)
        )
        if result or place.value is None:
            self._forget_error()
            logger.warning("%d bytes cannot be pinned (CUDA error %d)", size, result)
            return None
        return place.value

    def unpin(self, place: int) -> None:
        """Give back what `pin` gave."""
        self._library.cudaFreeHost(ctypes.c_void_p(place))

    def _forget_error(self) -> None:
        """CUDA keeps a thread's last one, which ONNX Runtime takes for its next kernel's."""
        self._library.cudaGetLastError()
