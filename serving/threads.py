"""How many processors this process may really use: the container's share, not the host's count."""

import os
from pathlib import Path

_CGROUP_V2 = Path("/sys/fs/cgroup/cpu.max")
_CGROUP_V1_QUOTA = Path("/sys/fs/cgroup/cpu/cpu.cfs_quota_us")
_CGROUP_V1_PERIOD = Path("/sys/fs/cgroup/cpu/cpu.cfs_period_us")


def _affinity() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _quota() -> float | None:
    """Processors granted by the control group; None where there is no limit to read."""
    try:
        if _CGROUP_V2.exists():
            quota, period = _CGROUP_V2.read_text().split()
        else:
            quota, period = _CGROUP_V1_QUOTA.read_text(), _CGROUP_V1_PERIOD.read_text()
        return int(quota) / int(period) if int(quota) > 0 else None
    except (OSError, ValueError):
        # No control group here, or "max": no limit.
        return None


def available_cpus() -> int:
    """Whole processors, at least 1: the smaller of the affinity mask and the cgroup's quota."""
    quota = _quota()
    return max(1, min(_affinity(), int(quota) if quota else _affinity()))
