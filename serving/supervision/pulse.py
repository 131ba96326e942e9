"""Whether a process still turns its event loop, told in memory that it shares with its parent."""

import asyncio
import mmap
from collections.abc import Coroutine
from typing import Any, Final

# Between two beats, in seconds.
INTERVAL: Final = 1.0


class Pulse:
    """Beats of one process, which counts them, and is watched by its parent."""

    def __init__(self) -> None:
        # Nothing that is sent could do: it would hold up one whose parent does not read.
        self._beats = memoryview(mmap.mmap(-1, mmap.PAGESIZE)).cast("Q")
        self._seen = 0
        self._silence = 0.0

    async def during(self, main: Coroutine[Any, Any, None]) -> None:
        """Run `main`, and beat as long as it runs; called by the process."""
        beating = asyncio.create_task(self._beat())
        try:
            await main
        finally:
            beating.cancel()
            self._beats[0] = 0

    async def _beat(self) -> None:
        while True:
            self._beats[0] += 1
            await asyncio.sleep(INTERVAL)

    def silence(self, elapsed: float) -> float:
        """For how many seconds there was no beat, `elapsed` of them since the last call.

        0.0 for a process that has not begun to beat, or has ceased to. Called by the parent.
        """
        beats = self._beats[0]
        self._silence = self._silence + elapsed if beats and beats == self._seen else 0.0
        self._seen = beats
        return self._silence
