"""Ctrl-C, kept until somebody can act on it."""

import signal
from types import FrameType


class Interrupts:
    """While entered, Ctrl-C interrupts as usual, or else at the next `check`.

    Python raises KeyboardInterrupt wherever it is. In a destructor or in a callback of torch's the
    exception is written down and dropped, and the training would go on. To be entered in the main
    thread.
    """

    def __init__(self) -> None:
        self._came = False

    def __enter__(self) -> "Interrupts":
        self._before = signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self._before)

    def check(self) -> None:
        """KeyboardInterrupt if there was an interrupt, though nobody heard of it then."""
        if self._came:
            raise KeyboardInterrupt

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._came = True
        raise KeyboardInterrupt
