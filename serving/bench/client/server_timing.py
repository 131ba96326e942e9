"""What a server says of one answer: the header Server-Timing, by W3C's recommendation."""

import re
from collections.abc import Iterator
from typing import Final

_ENTRY: Final = re.compile(
    r'([^\s,;=]+)\s*;(?:[^,]*;)?\s*dur\s*=\s*"?(\d+(?:\.\d*)?)', re.IGNORECASE
)


def durations(header: str | bytes) -> Iterator[tuple[str, int]]:
    """The entries of a header that have a duration: their names, and nanoseconds.

    `queue;dur=0.12, compute;desc="run";dur=1.5` gives queue 120,000 and compute 1,500,000.
    """
    text = header.decode("latin-1") if isinstance(header, bytes) else header
    for name, milliseconds in _ENTRY.findall(text):
        yield name, round(float(milliseconds) * 1e6)
