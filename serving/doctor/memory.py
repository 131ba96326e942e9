"""How much memory this process may have, and the shared memory of its machine."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from serving.doctor.findings import Finding, good, warning
from serving.engine_settings import EngineKind
from serving.proc import PROC, control_groups, machine_memory
from serving.settings import Settings

CGROUPS: Final = Path("/sys/fs/cgroup")
SHARED: Final = Path("/dev/shm")

_MIB: Final = 1024 * 1024
# A server with a few small models and their arenas has about 300 MiB.
_LITTLE: Final = 512 * _MIB
# What Docker gives where nobody says --shm-size.
_SMALL_SHARED: Final = 64 * _MIB
# Of the first version's groups, "no limit" is a number of this size.
_UNLIMITED: Final = 2**60


def memory(settings: Settings, proc: Path = PROC, cgroups: Path = CGROUPS) -> Iterator[Finding]:
    """What is left until the machine or a control group's limit is full, and what may fill it."""
    rooms = [room for room in (_machine(proc), *_groups(proc, cgroups)) if room]
    if not rooms:
        yield good("memory", "this system does not tell")
        return
    free, limit, what = min(rooms)
    found = f"{free // _MIB} MiB free of {limit // _MIB} MiB ({what})"
    if free < _LITTLE:
        yield warning(
            "memory",
            found,
            "a server takes about 300 MiB and its models several times their files: end what else "
            "runs here, or raise the container's memory limit",
        )
    else:
        yield good("memory", found)
    # As measured: what a gateway passes on to Triton it holds twice as often.
    share = 8 if settings.engine is EngineKind.TRITON else 4
    if settings.max_inflight_bytes * share > limit:
        yield warning(
            "memory",
            f"large requests of --max-inflight-bytes={settings.max_inflight_bytes} may take "
            f"{settings.max_inflight_bytes * share // _MIB} MiB of {limit // _MIB} MiB ({what})",
            f"lower it: --max-inflight-bytes={limit // share}",
        )


def shared_memory(settings: Settings, folder: Path = SHARED) -> Iterator[Finding]:
    """Whether tensors in shared memory have room, where clients may pass them so."""
    if not settings.allow_client_shm or not folder.is_dir():
        yield good("shared memory", "not used (--allow-client-shm is off)")
        return
    state = os.statvfs(folder)
    size, free = state.f_blocks * state.f_frsize, state.f_bavail * state.f_frsize
    found = f"{free // _MIB} MiB free of {size // _MIB} MiB in {folder}"
    if free <= _SMALL_SHARED:
        advice = "give it room: `docker run --shm-size=1g`, or an emptyDir of medium Memory"
        yield warning("shared memory", found, advice)
    else:
        yield good("shared memory", found)


# Free bytes, the limit that they are left of, and whose limit it is.
_Room = tuple[int, int, str]


def _machine(proc: Path) -> _Room | None:
    found = machine_memory(proc)
    return (found.available, found.total, "the machine") if found else None


def _groups(proc: Path, cgroups: Path) -> Iterator[_Room]:
    """Of the control groups that have a limit."""
    for group in control_groups("", proc):
        yield from _group(cgroups / group, "memory.max", "memory.current")
    for group in control_groups("memory", proc):
        folder = cgroups / "memory" / group
        yield from _group(folder, "memory.limit_in_bytes", "memory.usage_in_bytes")


def _group(folder: Path, limit_file: str, used_file: str) -> Iterator[_Room]:
    try:
        limit = int((folder / limit_file).read_text())
        used = int((folder / used_file).read_text())
        cached = _cached(folder / "memory.stat")
    except (OSError, ValueError):
        return  # no such group here, or "max": no limit
    if limit < _UNLIMITED:
        yield max(0, limit - used + cached), limit, f"the control group {folder}"


def _cached(stat: Path) -> int:
    """Bytes of files that are given back when memory is wanted."""
    fields = dict(line.split() for line in stat.read_text().splitlines())
    return int(fields.get("inactive_file", fields.get("total_inactive_file", 0)))
