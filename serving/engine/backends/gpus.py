"""Which GPUs ONNX Runtime can execute on, found out before any model is opened.

ONNX Runtime falls back to the CPU without a word where a provider does not load. So it is tried
with a graph of one node, which runs once, as some of what may be wrong shows in kernels only. What
is missing is told with the cure: nobody who asked for a GPU is served by a CPU.
"""

import ctypes
import logging
import re
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import numpy as np

from serving.devices import Device, Gpus, Wish
from serving.engine.backends import cuda_errors
from serving.engine.backends.cuda_driver import CudaDevice, NoGpu, cuda_devices
from serving.engine.backends.runtime import CUDA, TENSORRT, load_runtime
from serving.errors import LoadFailed

logger = logging.getLogger("penstock.engine")

# y = Neg(x), FP32[1], opset 13: what `onnx.helper` makes of it.
_GRAPH: Final = (
    b'\x08\x07:2\n\x0b\n\x01x\x12\x01y"\x03Neg\x12\x01gZ\x0f\n\x01x\x12\n\n\x08\x08\x01\x12'
    b"\x04\n\x02\x08\x01b\x0f\n\x01y\x12\n\n\x08\x08\x01\x12\x04\n\x02\x08\x01B\x04\n\x00\x10\r"
)
_FATAL: Final = 4  # of ONNX Runtime's severities

_LIBRARIES: Final = (
    (r"libcuda\.so", "the driver: install one; in a container, --gpus all"),
    (r"undefined symbol: cu[A-Z]", "a driver for CUDA {cuda}: this one is too old"),
    (
        r"libnv(infer|onnxparser)[\w]*\.so\.(?P<major>\d+)",
        "TensorRT {major}: pip install 'tensorrt-cu{cuda}<{next}'",
    ),
    (r"lib(cu|nv)\w*\.so", "CUDA {cuda} and cuDNN: pip install 'penstock[gpu]'"),
)


def find_gpus(wish: Wish, devices: Callable[[], Sequence[CudaDevice]] = cuda_devices) -> Gpus:
    """The GPUs that models may use as `--device` has it.

    LoadFailed where a GPU was asked for that cannot be had; for `auto`, `missing` says why.
    """
    if wish.device is Device.CPU:
        return Gpus(missing="the server runs with --device=cpu")
    try:
        found = _usable(load_runtime(), wish, devices)
    except (NoGpu, LoadFailed) as error:
        if wish.is_binding:
            raise LoadFailed(f"--device={wish}: {error}") from error
        if isinstance(error, NoGpu):  # and a runtime that is installed for one
            logger.warning("there is no GPU to execute on, models have the CPU: %s", error)
        return Gpus(missing=str(error))
    for device in found:
        logger.info("GPU %d: %s, %s", device.number, device.name, device.uuid)
    numbers = tuple(device.number for device in found)
    return Gpus(numbers, tensorrt=wish.device is Device.TENSORRT, own=wish.own)


def why_not(runtime: Any, provider: str) -> str:
    """Why an execution provider does not load, with the cure."""
    built_for = cuda_major()
    needs = f"it needs CUDA {built_for} and a driver for it: penstock doctor tells what there is"
    return unloadable(runtime, provider) or needs


def unloadable(runtime: Any, provider: str) -> str:
    """What a provider's library lacks to be loaded, with the cure; empty where it loads."""
    if provider not in runtime.get_available_providers():
        return _processors_only(runtime)
    built_for = cuda_major()
    file = f"libonnxruntime_providers_{'tensorrt' if provider == TENSORRT else 'cuda'}.so"
    path = Path(runtime.__file__).with_name("capi") / file
    try:
        ctypes.CDLL(str(path))
    except OSError as error:
        return f"{error}: it lacks {_lacking(str(error), built_for)}"
    return ""


def _usable(
    runtime: Any, wish: Wish, devices: Callable[[], Sequence[CudaDevice]]
) -> Sequence[CudaDevice]:
    """Those of the wish that CUDA shows and ONNX Runtime takes; NoGpu if there is none."""
    if CUDA not in runtime.get_available_providers():
        raise LoadFailed(_processors_only(runtime))
    shown = devices()
    numbers = [device.number for device in shown]
    if absent := sorted(set(wish.gpus) - set(numbers)):
        there = ", ".join(map(str, numbers))
        raise NoGpu(f"there is no GPU {absent[0]}; CUDA shows this process {there}")
    chosen = [device for device in shown if device.number in (wish.gpus or numbers)]
    # Trying takes memory of the GPU, which belongs to the process that drives it.
    own = [each.number for each in chosen if wish.own is None or each.number in wish.own]
    wanted = [TENSORRT, CUDA] if wish.device is Device.TENSORRT else [CUDA]
    for provider in wanted if own else ():
        if reason := _refused(runtime, provider, own[0]):
            raise NoGpu(f"ONNX Runtime's {provider} does not execute on GPU {own[0]}: {reason}")
    return chosen


def _refused(runtime: Any, provider: str, gpu: int) -> str:
    """Why a session does not get the provider that it asks for; empty where it gets it."""
    preload(runtime, provider)
    try:
        session = runtime.InferenceSession(
            _GRAPH, providers=[(provider, {"device_id": str(gpu)})], enable_fallback=0
        )
        if provider not in session.get_providers():
            return why_not(runtime, provider)
        session.run(None, {"x": np.ones(1, np.float32)})
    except Exception as error:  # the runtime raises a class of its own per status code
        text = str(error).strip()
        return unloadable(runtime, provider) or cuda_errors.explain(text) or text
    return ""


def preload(runtime: Any, provider: str = CUDA) -> None:
    """Load a provider's libraries from their wheels, where a process would not look for them."""
    # What goes wrong is raised and told by us; the runtime would print it as well.
    runtime.set_default_logger_severity(_FATAL)
    # In releases before 1.21 there is none, and LD_LIBRARY_PATH has to name them.
    load = getattr(runtime, "preload_dlls", None)
    if load is not None:
        load()
    if provider == TENSORRT:
        with suppress(ImportError):
            import_module("tensorrt_libs")  # which loads them


def _lacking(error: str, built_for: str) -> str:
    for pattern, cure in _LIBRARIES:
        if match := re.search(pattern, error):
            major = match.groupdict().get("major") or "0"
            return cure.format(cuda=built_for, major=major, next=int(major) + 1)
    return "what the message names"


def _processors_only(runtime: Any) -> str:
    return (
        f"ONNX Runtime {runtime.__version__} is built without CUDA: pip uninstall onnxruntime, "
        "then pip install 'penstock[gpu]'"
    )


def cuda_major() -> str:
    """Which CUDA the installed ONNX Runtime is built for, such as 13; empty: for none."""
    from onnxruntime.capi import build_and_package_info

    return str(getattr(build_and_package_info, "cuda_version", "")).partition(".")[0]
