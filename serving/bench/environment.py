"""On what a run was made: the client's machine and the versions that matter."""

import os
import platform
import re
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

from serving.proc import machine_memory
from serving.threads import available_cpus

_PACKAGES: Final = ("penstock", "numpy", "httptools", "grpcio", "uvloop", "orjson")
_CPU: Final = Path("/proc/cpuinfo")


def environment() -> dict[str, Any]:
    """What the client runs on; `memory_bytes` is None where the system does not tell."""
    memory = machine_memory()
    return {
        "host": platform.node(),
        "cpu": _found(_CPU, r"^model name\s*:\s*(.+)$") or platform.processor() or "unknown",
        "cpus_available": available_cpus(),
        "cpus_of_host": os.cpu_count(),
        "memory_bytes": memory.total if memory else None,
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in _PACKAGES},
    }


def _found(path: Path, pattern: str) -> str | None:
    try:
        found = re.search(pattern, path.read_text(encoding="utf-8"), re.MULTILINE)
    except OSError:
        return None
    return found[1].strip() if found else None


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
