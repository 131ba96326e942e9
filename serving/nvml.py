"""What NVIDIA's management library (NVML) tells of the GPUs, by the package nvidia-ml-py.

NVML knows nothing of CUDA's numbers nor of CUDA_VISIBLE_DEVICES: `visible` heeds it. Numbers in
there are taken as NVML counts, by the PCI bus; on a machine with GPUs of several kinds that is
CUDA's order with CUDA_DEVICE_ORDER=PCI_BUS_ID only, and UUIDs say it without doubt.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

VISIBLE: Final = "CUDA_VISIBLE_DEVICES"

_MILLI: Final = 1000


class NoNvml(Exception):
    """NVML cannot be asked; says why, with the cure."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU, or a MIG instance of one; `number` is that of the GPU as NVML counts."""

    number: int
    uuid: str
    name: str
    handle: Any


@dataclass(frozen=True, slots=True)
class Figures:
    """Memory in bytes, utilisation from 0 to 1, power in watts, and energy in joules since the
    driver was loaded; None where the driver does not tell, as of most in MIG instances."""

    memory_total: int | None
    memory_used: int | None
    utilization: float | None
    power_usage: float | None
    power_limit: float | None
    energy: float | None


class Nvml:
    """A session with NVML, for as long as the process lives."""

    def __init__(self) -> None:
        """NoNvml where the package, the driver or a GPU is missing."""
        try:
            import pynvml
        except ImportError as error:
            raise NoNvml(f"{error}: pip install nvidia-ml-py") from error
        self._nvml: Any = pynvml
        try:
            pynvml.nvmlInit()
        except pynvml.NVMLError as error:
            raise NoNvml(f"NVML: {error}: there is no NVIDIA driver, or it does not run") from error

    @property
    def driver(self) -> str:
        """The driver's version, such as 580.95.05; NoNvml where it does not tell."""
        return str(self._asked(self._nvml.nvmlSystemGetDriverVersion))

    @property
    def cuda(self) -> tuple[int, int]:
        """The newest CUDA that the driver can do, such as (13, 0); NoNvml where it has none, as in
        a container that is given the driver's tools alone."""
        version = int(self._asked(self._nvml.nvmlSystemGetCudaDriverVersion_v2))
        return version // 1000, version % 1000 // 10

    def gpus(self) -> list[Gpu]:
        """Those that CUDA_VISIBLE_DEVICES leaves this process, MIG instances for their GPU.

        One that has failed, as when it fell off the bus, is none.
        """
        count = self._told(self._nvml.nvmlDeviceGetCount) or 0
        found = [gpu for number in range(count) for gpu in self._of(number)]
        return visible(found, os.environ.get(VISIBLE))

    def capability(self, gpu: Gpu) -> tuple[int, int]:
        """What it computes by, such as (9, 0); NoNvml where the driver does not tell."""
        # That of the GPU around a MIG instance: it is the same, and always told.
        handle = self._asked(lambda: self._nvml.nvmlDeviceGetHandleByIndex(gpu.number))
        major, minor = self._asked(lambda: self._nvml.nvmlDeviceGetCudaComputeCapability(handle))
        return int(major), int(minor)

    def figures(self, gpu: Gpu) -> Figures:
        """How the GPU is now."""
        nvml, handle = self._nvml, gpu.handle
        memory = self._told(lambda: nvml.nvmlDeviceGetMemoryInfo(handle))
        return Figures(
            memory and int(memory.total),
            memory and int(memory.used),
            self._told(lambda: nvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100),
            self._told(lambda: nvml.nvmlDeviceGetPowerUsage(handle) / _MILLI),
            self._told(lambda: nvml.nvmlDeviceGetEnforcedPowerLimit(handle) / _MILLI),
            self._told(lambda: nvml.nvmlDeviceGetTotalEnergyConsumption(handle) / _MILLI),
        )

    def held(self, gpu: Gpu, process: int) -> int | None:
        """The bytes of the GPU that a process holds; None where the driver does not say.

        It knows processes by the machine's numbers, which are not those of a container.
        """
        found = self._told(lambda: self._nvml.nvmlDeviceGetComputeRunningProcesses(gpu.handle))
        used = [one.usedGpuMemory for one in found or () if one.pid == process]
        return sum(used) if used and None not in used else None

    def _of(self, number: int) -> Iterator[Gpu]:
        """The GPU, or its MIG instances where it is cut into such."""
        with suppress(self._nvml.NVMLError):
            handle = self._nvml.nvmlDeviceGetHandleByIndex(number)
            mode = self._told(lambda: self._nvml.nvmlDeviceGetMigMode(handle))
            if not mode or not mode[0]:
                yield self._gpu(number, handle)
                return
            for index in range(self._nvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
                with suppress(self._nvml.NVMLError):  # not every slice is an instance
                    mig = self._nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, index)
                    yield self._gpu(number, mig)

    def _gpu(self, number: int, handle: Any) -> Gpu:
        uuid = str(self._nvml.nvmlDeviceGetUUID(handle))
        return Gpu(number, uuid, str(self._nvml.nvmlDeviceGetName(handle)), handle)

    def _asked(self, ask: Callable[[], Any]) -> Any:
        """What the driver tells; NoNvml with its reason where it does not."""
        try:
            return ask()
        except self._nvml.NVMLError as error:
            raise NoNvml(
                f"NVML: {error}: nvidia-smi tells more; in a container, --gpus all, or "
                "NVIDIA_DRIVER_CAPABILITIES=compute,utility"
            ) from error

    def _told(self, ask: Callable[[], Any]) -> Any:
        """What the driver tells; None where it cannot."""
        try:
            return ask()
        except self._nvml.NVMLError:
            return None


def visible(gpus: Sequence[Gpu], wanted: str | None) -> list[Gpu]:
    """Those of `gpus` that a value of CUDA_VISIBLE_DEVICES names, in its order; None: all.

    An entry is a number, or the beginning of a UUID; as with CUDA, one that names nothing ends it.
    """
    if wanted is None:
        return list(gpus)
    chosen: list[Gpu] = []
    for entry in map(str.strip, wanted.split(",")):
        named = [gpu for gpu in gpus if _names(entry, gpu)]
        if not named:
            break
        chosen += named
    return chosen


def _names(entry: str, gpu: Gpu) -> bool:
    if entry.isascii() and entry.isdecimal():
        return gpu.number == int(entry)
    return len(entry) > len("GPU-") and gpu.uuid.startswith(entry)
