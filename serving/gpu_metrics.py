"""What Triton tells of the GPUs, and how much of them this process holds."""

import os
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Final

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from serving.nvml import Figures, Gpu, NoNvml, Nvml

_LABEL: Final = "gpu_uuid"

# By Triton's names; each is left out for a GPU of which the driver does not tell it.
_GAUGES: Final[tuple[tuple[str, str, Callable[[Figures], float | None]], ...]] = (
    ("nv_gpu_utilization", "GPU utilization rate [0.0 - 1.0]", lambda f: f.utilization),
    ("nv_gpu_memory_total_bytes", "GPU total memory, in bytes", lambda f: f.memory_total),
    ("nv_gpu_memory_used_bytes", "GPU used memory, in bytes", lambda f: f.memory_used),
    ("nv_gpu_power_usage", "GPU power usage in watts", lambda f: f.power_usage),
    ("nv_gpu_power_limit", "GPU power management limit in watts", lambda f: f.power_limit),
)


class GpuMetrics(Collector):
    """Read from NVML, no older than half of `interval` milliseconds, as with Triton."""

    def __init__(
        self, nvml: Nvml, interval: float = 0.0, clock: Callable[[], int] = time.monotonic_ns
    ) -> None:
        self._nvml = nvml
        self._gpus = nvml.gpus()
        self._half = int(interval / 2 * 1e6)
        self._clock = clock
        self._began = {gpu.uuid: nvml.figures(gpu).energy for gpu in self._gpus}
        self._read_at: int | None = None
        self._read: tuple[Metric, ...] = ()

    def collect(self) -> Iterator[Metric]:
        """One sample for each GPU of all that its driver tells."""
        now = self._clock()
        if self._read_at is None or now - self._read_at >= self._half:
            figures = [(gpu, self._nvml.figures(gpu)) for gpu in self._gpus]
            self._read_at, self._read = now, tuple(self._families(figures))
        yield from self._read

    def _families(self, figures: list[tuple[Gpu, Figures]]) -> Iterator[Metric]:
        for name, text, read in _GAUGES:
            yield _gauge(name, text, ((gpu, read(found)) for gpu, found in figures))
        energy = Metric(
            "nv_energy_consumption",
            "GPU energy consumption in joules since the server started",
            "counter",
        )
        for gpu, found in figures:
            began = self._began[gpu.uuid]
            if found.energy is not None and began is not None:
                energy.add_sample(energy.name, {_LABEL: gpu.uuid}, found.energy - began)
        yield energy
        own = os.getpid()
        yield _gauge(
            "penstock_gpu_memory_held_bytes",
            "GPU memory that this process holds, in bytes",
            ((gpu, self._nvml.held(gpu, own)) for gpu, _ in figures),
        )


def gpu_metrics(interval: float) -> GpuMetrics | None:
    """The metrics of the GPUs; None where there is no NVML to ask."""
    try:
        return GpuMetrics(Nvml(), interval)
    except NoNvml:
        return None


def _gauge(name: str, text: str, values: Iterable[tuple[Gpu, float | None]]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=[_LABEL])
    for gpu, value in values:
        if value is not None:
            family.add_metric([gpu.uuid], value)
    return family
