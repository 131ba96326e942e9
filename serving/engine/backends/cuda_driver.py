"""Which GPUs CUDA gives this process, by asking its driver.

The driver itself heeds CUDA_VISIBLE_DEVICES, CUDA_DEVICE_ORDER and MIG, so that what it counts here
is what ONNX Runtime will count: `device_id` 0 is the first of them.
"""

import ctypes
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from serving.engine.backends.cuda_errors import NO_FABRIC

LIBRARY: Final = "libcuda.so.1"

_NAME_BYTES: Final = 256
_UUID_BYTES: Final = 16


class NoGpu(Exception):
    """There is no driver, no GPU that it shows this process, or both do not fit; says the cure."""


@dataclass(frozen=True, slots=True)
class CudaDevice:
    """A GPU, or a MIG instance of one; `number` is what CUDA calls it in this process."""

    number: int
    name: str
    uuid: str


def cuda_devices(library: str = LIBRARY) -> list[CudaDevice]:
    """The devices in CUDA's order, at least one; NoGpu where there is none.

    It initialises CUDA for the process, whose children by fork cannot use it any more.
    """
    try:
        driver = ctypes.CDLL(library)
    except OSError as error:
        raise NoGpu(
            f"no NVIDIA driver ({error}): install one; in a container, the NVIDIA Container "
            "Toolkit and --gpus all"
        ) from error
    _call(driver, "cuInit", 0)
    count = ctypes.c_int()
    _call(driver, "cuDeviceGetCount", ctypes.byref(count))
    if not count.value:
        raise NoGpu("the driver shows this process no GPU: look at CUDA_VISIBLE_DEVICES")
    return [_device(driver, number) for number in range(count.value)]


def _device(driver: Any, number: int) -> CudaDevice:
    device = ctypes.c_int()
    _call(driver, "cuDeviceGet", ctypes.byref(device), number)
    name = ctypes.create_string_buffer(_NAME_BYTES)
    _call(driver, "cuDeviceGetName", name, _NAME_BYTES, device)
    uuid = ctypes.create_string_buffer(_UUID_BYTES)
    # The second version tells a MIG instance's own, the first that of the GPU around it.
    _call(driver, "cuDeviceGetUuid_v2", uuid, device)
    model = name.value.decode(errors="replace")
    prefix = "MIG" if " MIG " in model else "GPU"
    return CudaDevice(number, model, f"{prefix}-{UUID(bytes=uuid.raw)}")


def _call(driver: Any, function: str, *arguments: Any) -> None:
    try:
        call = getattr(driver, function)
    except AttributeError as error:
        raise NoGpu(f"the driver is too old, it has no {function}: install a newer one") from error
    if result := call(*arguments):
        raise NoGpu(f"{function}: {_told(driver, result)}: {_CURES.get(result, _CURE)}")


def _told(driver: Any, result: int) -> str:
    """The driver's own words for one of its errors."""
    text = ctypes.c_char_p()
    if driver.cuGetErrorString(result, ctypes.byref(text)) or text.value is None:
        return f"error {result}"
    return text.value.decode(errors="replace")


_CURE: Final = "nvidia-smi tells more; a driver that was just updated wants a restart"
_NO_DEVICE: Final = (
    "no GPU that this process may use: look at CUDA_VISIBLE_DEVICES, and in a container at "
    "--gpus all"
)
_CURES: Final = {
    34: "this is CUDA's stub library: put the driver's own first in LD_LIBRARY_PATH",
    36: "the driver is older than CUDA here: install a newer one",
    100: _NO_DEVICE,
    101: _NO_DEVICE,
    802: NO_FABRIC,
    803: "driver and its library are of different versions: restart the machine",
    804: "this GPU cannot run with a newer library than its driver: install a newer driver",
    999: "/dev/nvidia-uvm may be missing: as root, nvidia-modprobe -c 0 -u; nvidia-smi tells more",
}
