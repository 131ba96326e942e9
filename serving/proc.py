"""What Linux tells below /proc: the machine's memory, and the control groups of this process."""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Final, NamedTuple

PROC: Final = Path("/proc")

_KIB: Final = 1024


class Memory(NamedTuple):
    """That of the machine, in bytes."""

    total: int
    available: int


def machine_memory(proc: Path = PROC) -> Memory | None:
    """How much there is now; None where the system does not tell."""
    try:
        lines = (proc / "meminfo").read_text().splitlines()
    except OSError:
        return None
    sizes = {name: rest.split() for name, _, rest in (line.partition(":") for line in lines)}
    try:
        total, available = (int(sizes[name][0]) * _KIB for name in ("MemTotal", "MemAvailable"))
    except KeyError:
        return None
    return Memory(total, available)


def control_groups(controller: str, proc: Path = PROC) -> Sequence[PurePosixPath]:
    """This process's control group and those around it, below where the controller is mounted.

    `controller` is one of the first version's, or "" for the second. In a container the first of
    them may be the host's; what is mounted, the last of them, is then the group itself.
    """
    try:
        lines = (proc / "self" / "cgroup").read_text().splitlines()
    except OSError:
        lines = []
    path = PurePosixPath("/")
    for line in lines:
        _, controllers, own = line.split(":", 2)
        if controller in controllers.split(","):
            path = PurePosixPath(own)
    return [group.relative_to("/") for group in (path, *path.parents)]
