"""The machine that is measured on: its cores, what runs on them, and what is installed."""

import os
import platform
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

TICKS: Final = os.sysconf("SC_CLK_TCK")
_IDLE: Final = slice(3, 5)  # idle and iowait, in a line of /proc/stat


class Unavailable(Exception):
    """Something cannot run here; the message says exactly what is missing and who brings it."""


@dataclass(frozen=True, slots=True)
class Cores:
    """The processors of the two sides."""

    server: int
    load: int


def cores() -> Cores:
    """One processor for the servers, another for the load; Unavailable if there is only one."""
    allowed = sorted(os.sched_getaffinity(0))
    if len(allowed) < 2:
        raise Unavailable("two processors are needed, one for the servers and one for the load")
    return Cores(server=allowed[-1], load=allowed[0])


@contextmanager
def pinned(*cores: int) -> Iterator[None]:
    """Processes that are started inside may use these processors only, as may this thread."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def tree(root: int) -> list[int]:
    """A process and all that descend from it."""
    children = defaultdict(list)
    for folder in Path("/proc").iterdir():
        if folder.name.isdecimal():
            try:
                stat = (folder / "stat").read_text()
            except (FileNotFoundError, ProcessLookupError):  # it has just ended
                continue
            # The name, in parentheses, may hold anything; the parent is the second field after it.
            children[int(stat.rpartition(")")[2].split()[1])].append(int(folder.name))
    found = [root]
    for pid in found:
        found += children[pid]
    return found


def cpu_seconds(root: int) -> float:
    """The time that a process and its descendants have spent on any processor so far."""
    return sum(cpu_seconds_of_each(root).values())


def cpu_seconds_of_each(root: int) -> dict[int, float]:
    """The same of a process and each of its descendants, by their numbers.

    The kernel's clock of a process counts nanoseconds and includes threads that have ended, where
    /proc/PID/stat has hundredths of a second.
    """
    found = {}
    for pid in tree(root):
        with suppress(OSError):  # it has just ended
            found[pid] = time_of(pid) / 1e9
    return found


def time_of(pid: int) -> int:
    """Nanoseconds of processor time of one process: the clock of clock_getcpuclockid(3)."""
    return time.clock_gettime_ns((~pid << 3) | 2)


def resident_bytes(root: int) -> int:
    """The memory that a process and its descendants have in use, each page of it counted once."""
    total = 0
    for pid in tree(root):
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:  # it has just ended
            continue
        total += sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:"))
    return total


def busy_seconds(core: int) -> float:
    """The time that a processor has not been idle so far, whoever used it."""
    for line in Path("/proc/stat").read_text().splitlines():
        name, *ticks = line.split()
        if name == f"cpu{core}":
            # What guests used is counted as the user's already: the first eight are all.
            spent = [int(tick) for tick in ticks[:8]]
            return (sum(spent) - sum(spent[_IDLE])) / TICKS
    raise Unavailable(f"/proc/stat has no processor {core}")


def hardware() -> str:
    """The processor and the system, in one line."""
    model = platform.processor() or platform.machine()
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.partition(": ")[2]
            break
    return f"{model}, {os.cpu_count()} processors, {platform.system()} {platform.release()}"
