"""Which processors each of several processes computes on: its share, near to each other."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

_SYSTEM: Final = Path("/sys/devices/system/cpu")


def share(cpus: Sequence[int], index: int, of: int) -> Sequence[int]:
    """What the process of that index has, of so many, of `cpus`, in their order; at least one."""
    begin, end = (len(cpus) * each // of for each in (index, index + 1))
    return cpus[begin:end] or [cpus[index % len(cpus)]]


def keep_to_share(index: int, of: int) -> None:
    """Have this process, which has no other thread yet, compute on its share alone.

    Shares follow memory nodes and cores, so that two of them have neither in common if they can.
    Elsewhere than on Linux, nothing is done.
    """
    if sys.platform == "linux":
        os.sched_setaffinity(0, share(sorted(os.sched_getaffinity(0), key=_place), index, of))


def _place(cpu: int) -> tuple[int, ...]:
    """By memory node, socket, core, and thread of the core, as far as the system tells."""
    folder = _SYSTEM / f"cpu{cpu}"
    nodes = (path.name.removeprefix("node") for path in folder.glob("node[0-9]*"))
    node = min(map(int, nodes), default=0)
    return node, *(_read(folder / "topology" / name) for name in _TOPOLOGY), cpu


_TOPOLOGY: Final = ("physical_package_id", "core_id")


def _read(path: Path) -> int:
    try:
        return int(path.read_text())
    except (OSError, ValueError):
        return 0
