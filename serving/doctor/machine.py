"""Processors, file descriptors and the clock."""

import ctypes
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from serving.doctor.findings import Finding, fault, good, warning
from serving.open_files import files_wanted
from serving.settings import Settings
from serving.threads import processors

CLOCK_SOURCE: Final = Path("/sys/devices/system/clocksource/clocksource0/current_clocksource")

_FEWEST_FILES: Final = 256
# Reading these takes a microsecond or more, and each request reads the clock several times.
_SLOW_CLOCKS: Final = ("acpi_pm", "hpet", "jiffies")
# What adjtimex(2) answers while nobody sets the clock right; and room for its struct.
_TIME_ERROR: Final = 5
_TIMEX_BYTES: Final = 512


def threads(_: Settings) -> Iterator[Finding]:
    """How many threads may compute at a time."""
    own = processors()
    found = f"{own}, of {os.cpu_count()} of the machine; models compute with {own.for_models}"
    if own.quota is not None and own.quota < 1:
        advice = "less than one processor stops every thread again and again: grant 1 or more"
        yield warning("threads", found, advice)
    elif own.count == 1:
        advice = "models and requests share one processor: grant 2 or more"
        yield warning("threads", found, advice)
    else:
        yield good("threads", found)


def files(settings: Settings) -> Iterator[Finding]:
    """Whether as many connections may be open as the settings promise."""
    try:
        import resource
    except ImportError:
        return  # Windows has no such limit
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = files_wanted(settings)
    if hard == resource.RLIM_INFINITY or hard >= wanted:
        limit = "no limit" if hard == resource.RLIM_INFINITY else f"up to {hard}"
        yield good("files", f"{limit}; --max-connections={settings.max_connections} wants {wanted}")
        return
    found = f"up to {hard}, and --max-connections={settings.max_connections} wants {wanted}"
    advice = f"raise the limit (`ulimit -n {wanted}`, LimitNOFILE={wanted}), or lower the flag"
    yield (fault if hard < _FEWEST_FILES else warning)("files", found, advice)


def clock(_: Settings, source: Path = CLOCK_SOURCE) -> Iterator[Finding]:
    """Whether the clock is quick to read, and somebody sets it right."""
    try:
        name = source.read_text().strip()
    except OSError:
        yield good("clock", "this system does not tell")
        return
    if name in _SLOW_CLOCKS:
        advice = "boot with clocksource=tsc, or choose another kind of virtual machine"
        yield warning("clock", f"read from {name}, which is slow", advice)
    elif _is_unsynchronised():
        advice = (
            "start chrony or systemd-timesyncd on the host: certificates and traces go by the "
            "time of day"
        )
        yield warning("clock", f"read from {name}; nobody sets it right", advice)
    else:
        yield good("clock", f"read from {name}, and synchronised")


def _is_unsynchronised() -> bool:
    try:
        adjtimex = ctypes.CDLL(None).adjtimex
    except (AttributeError, OSError):
        return False  # not Linux
    # All zeros: nothing is set, the state is asked for.
    return int(adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES))) == _TIME_ERROR
