"""What Triton tells of the host: how busy its processors are and how full its memory is."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from serving.proc import PROC, machine_memory

# The columns of /proc/stat in which a processor has nothing to do: idle, and waiting for a disk.
_IDLE: Final = slice(3, 5)
# What follows counts virtual machines, whose time is in the columns before already.
_COUNTED: Final = 8


class HostMetrics(Collector):
    """Gauges read from `proc`, no older than half of `interval` milliseconds, as with Triton.

    None where the system has no such files.
    """

    def __init__(
        self,
        proc: Path = PROC,
        interval: float = 0.0,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._half = int(interval / 2 * 1e6)
        self._proc = proc
        self._clock = clock
        self._idle = self._total = 0
        self._read_at: int | None = None
        self._gauges: tuple[Metric, ...] = ()

    def collect(self) -> Iterator[Metric]:
        """Utilisation since it was read before, and memory in bytes."""
        now = self._clock()
        if self._read_at is None or now - self._read_at >= self._half:
            self._read_at, self._gauges = now, tuple(self._read())
        yield from self._gauges

    def _read(self) -> Iterator[Metric]:
        memory = machine_memory(self._proc)
        try:
            utilisation = self._utilisation()
        except FileNotFoundError:
            return
        yield GaugeMetricFamily(
            "nv_cpu_utilization", "CPU utilization rate [0.0 - 1.0]", utilisation
        )
        if memory is None:
            return
        yield GaugeMetricFamily(
            "nv_cpu_memory_total_bytes", "CPU total memory (RAM), in bytes", memory.total
        )
        used = memory.total - memory.available
        yield GaugeMetricFamily("nv_cpu_memory_used_bytes", "CPU used memory (RAM), in bytes", used)

    def _utilisation(self) -> float:
        first, _, _ = (self._proc / "stat").read_text().partition("\n")
        ticks = [int(column) for column in first.split()[1:]][:_COUNTED]
        idle, total = sum(ticks[_IDLE]), sum(ticks)
        passed = total - self._total
        busy = passed - (idle - self._idle)
        self._idle, self._total = idle, total
        return busy / passed if passed > 0 else 0.0
