"""How many processors this process may really use: the container's share, not the host's count."""

import atexit
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import NoReturn

from serving.proc import PROC, control_groups

# Where control groups are mounted; of the first version's, the controller `cpu` may have a place
# together with another.
_MOUNTS_V1 = (Path("/sys/fs/cgroup/cpu"), Path("/sys/fs/cgroup/cpu,cpuacct"))
_MOUNTS_V2 = (Path("/sys/fs/cgroup"), Path("/sys/fs/cgroup/unified"))
# A third of a processor's time beside a thread that does not give way, as Linux weighs them.
_NICENESS = 5
# From so many processors on, processes that parse and answer have some of their own. For every two
# one, up to where the one that executes has no time left for more.
_FEW = 4
_MOST_WORKERS = 4
# The processes of this server that compute with one quota.
_SHARERS = [1]


@dataclass(frozen=True, slots=True)
class Processors:
    """What this process may use: so many processors, and of their time so much; None: all of it."""

    affinity: int
    quota: float | None

    @property
    def count(self) -> int:
        """Whole processors, at least 1."""
        return max(1, min(self.affinity, int(self.quota or self.affinity)))

    @property
    def for_models(self) -> int:
        """Threads that compute at a time: one processor is left to parsing, where there are two."""
        return max(1, self.count - 1)

    @property
    def for_workers(self) -> int:
        """Processes that parse and answer beside one that executes; 0: one does everything."""
        return 0 if self.count < _FEW else min(self.count // 2, _MOST_WORKERS)

    def __str__(self) -> str:
        quota = "no quota" if self.quota is None else f"a quota of {self.quota:g}"
        return f"{self.count} (affinity to {self.affinity}, {quota})"


def processors() -> Processors:
    """Those of this process now: its affinity mask, and the least quota of its control groups.

    Of the quota it has its share, where others compute beside it (`share_quota`).
    """
    quota = min(_quotas(), default=None)
    return Processors(_affinity(), quota and quota / _SHARERS[0])


def share_quota(processes: int) -> None:
    """So many processes of this server, of which this is one, compute with one quota."""
    _SHARERS[:] = [processes]


def available_cpus() -> int:
    """Whole processors, at least 1: the smaller of the affinity mask and the cgroup's quota."""
    return processors().count


def give_way() -> None:
    """Let the process's other threads go before this one, for good, where the system can do so.

    Other processes are hardly concerned where they are in a control group of their own.
    """
    if sys.platform != "linux":
        return  # Elsewhere processes have a priority of this kind, and threads none.
    thread = threading.get_native_id()
    with suppress(OSError):
        niceness = os.getpriority(os.PRIO_PROCESS, thread)
        os.setpriority(os.PRIO_PROCESS, thread, niceness + _NICENESS)


def leave(code: int) -> NoReturn:
    """End the process from its main thread, at once though others still run.

    They are in a library's code, which nothing can interrupt: they load a model, or execute one.
    """
    if threading.active_count() > 1:
        end(code)
    sys.exit(code)


def end(code: int) -> NoReturn:
    """End the process as the interpreter would, but that nothing of the stack is returned to.

    It waits for no other thread and takes nothing away under their feet: a library whose own data
    went would end the process by a signal.
    """
    try:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def _affinity() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _quotas() -> Iterator[float]:
    """What each control group with a limit grants; a group has no more than those around it."""
    for mounts, controller, files in (
        (_MOUNTS_V1, "cpu", ("cpu.cfs_quota_us", "cpu.cfs_period_us")),
        (_MOUNTS_V2, "", ("cpu.max",)),
    ):
        for mount, group in product(mounts, control_groups(controller, PROC)):
            quota = _quota(mount / group, files)
            if quota:
                yield quota


def _quota(folder: Path, files: tuple[str, ...]) -> float | None:
    """Processors granted by one control group; None where there is no limit to read."""
    try:
        quota, period = " ".join((folder / file).read_text() for file in files).split()
        return int(quota) / int(period) if int(quota) > 0 else None
    except (OSError, ValueError, ZeroDivisionError):
        # No control group here, or "max": no limit.
        return None
