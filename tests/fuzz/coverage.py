"""Which lines of serving a run has reached."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Final, TypeAlias

import serving

_ROOT: Final = str(Path(serving.__file__).parent)
_Tracer: TypeAlias = Any  # what sys.settrace takes refers to itself


class Coverage:
    """The lines of serving that this thread ran inside `watching`; to watch makes it slow."""

    def __init__(self) -> None:
        self._lines: set[tuple[CodeType, int]] = set()
        self._ours: dict[CodeType, bool] = {}

    def __len__(self) -> int:
        return len(self._lines)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Count the lines that the block reaches."""
        before = sys.gettrace()
        sys.settrace(self._entered)
        try:
            yield
        finally:
            sys.settrace(before)

    def _entered(self, frame: FrameType, event: str, argument: object) -> _Tracer:
        code = frame.f_code
        if code not in self._ours:
            self._ours[code] = code.co_filename.startswith(_ROOT)
        return self._stepped if self._ours[code] else None

    def _stepped(self, frame: FrameType, event: str, argument: object) -> _Tracer:
        if event == "line":
            self._lines.add((frame.f_code, frame.f_lineno))
        return self._stepped
