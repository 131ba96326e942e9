"""An alarm for an event loop, as precise as the kernel's own timers.

Event loops round timers up to milliseconds (epoll does, and libuv below uvloop): that would add as
much to the latency of every request of an open loop. On Linux this one is a timerfd instead.
"""

import asyncio
import ctypes
import os
import sys
from collections.abc import Callable
from typing import Final

_CLOCK_MONOTONIC: Final = 1
_ABSOLUTE: Final = 1  # TFD_TIMER_ABSTIME
_SECOND: Final = 1_000_000_000


class _Specification(ctypes.Structure):
    """struct itimerspec: an interval, then the time itself, each in seconds and nanoseconds."""

    _fields_ = tuple((name, ctypes.c_long) for name in ("every", "every_ns", "at", "at_ns"))


class Alarm:
    """Calls `ring` at a time of the monotonic clock, within some 50 microseconds on Linux."""

    def __init__(self, loop: asyncio.AbstractEventLoop, ring: Callable[[], None]) -> None:
        self._loop = loop
        self._ring = ring
        self._handle: asyncio.TimerHandle | None = None
        self._file = -1
        if sys.platform == "linux":
            self._libc = ctypes.CDLL(None, use_errno=True)
            self._file = self._libc.timerfd_create(_CLOCK_MONOTONIC, os.O_NONBLOCK | os.O_CLOEXEC)
        if self._file >= 0:
            loop.add_reader(self._file, self._rung)

    def set(self, at: int) -> None:
        """Ring once at `at` nanoseconds, or at once if that has passed; forgets an earlier time."""
        if self._file < 0:
            self._set_in_loop(at)
            return
        seconds, rest = divmod(max(at, 1), _SECOND)  # all zeros would disarm it
        time = _Specification(0, 0, seconds, rest)
        self._libc.timerfd_settime(self._file, _ABSOLUTE, ctypes.byref(time), None)

    def close(self) -> None:
        """Never ring again."""
        if self._handle:
            self._handle.cancel()
        if self._file >= 0:
            self._loop.remove_reader(self._file)
            os.close(self._file)
            self._file = -1

    def _set_in_loop(self, at: int) -> None:
        if self._handle:
            self._handle.cancel()
        # The loop's clock is the monotonic one, though uvloop reads it in milliseconds.
        self._handle = self._loop.call_at(at / _SECOND, self._ring)

    def _rung(self) -> None:
        try:
            os.read(self._file, 8)
        except BlockingIOError:  # set anew since it rang
            return
        self._ring()
