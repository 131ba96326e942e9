"""What CUDA's provider says of a failure, in few words and with the cure.

ONNX Runtime tells each by the place in its source, CUDA's number or name, and CUDA's words.
"""

import re
from typing import Final

# By the number, as of a call that fails, or by the name, as of a kernel.
_FAILURE: Final = re.compile(
    r"CUDA (?:failure (?P<number>\d+): |error (?P<name>cudaError\w+):)(?P<words>[^;\n]*)"
)
_FULL: Final = re.compile(r"Failed to allocate memory for requested buffer of size (?P<size>\d+)")
_CAPPED: Final = re.compile(
    r"Available memory of (?P<free>\d+) is smaller than requested bytes of (?P<size>\d+)"
)
_NO_CUDNN: Final = re.compile(r"cuDNN is unavailable[^:]*: (?P<why>[^\n]*)")

_NUMBERS: Final = {
    "cudaErrorMemoryAllocation": 2,
    "cudaErrorInsufficientDriver": 35,
    "cudaErrorDevicesUnavailable": 46,
    "cudaErrorNoKernelImageForDevice": 209,
    "cudaErrorECCUncorrectable": 214,
    "cudaErrorNvlinkUncorrectable": 220,
    "cudaErrorUnsupportedPtxVersion": 222,
    "cudaErrorContained": 226,
    "cudaErrorIllegalAddress": 700,
    "cudaErrorLaunchTimeout": 702,
    "cudaErrorContextIsDestroyed": 709,
    "cudaErrorAssert": 710,
    "cudaErrorHardwareStackError": 714,
    "cudaErrorIllegalInstruction": 715,
    "cudaErrorMisalignedAddress": 716,
    "cudaErrorInvalidAddressSpace": 717,
    "cudaErrorInvalidPc": 718,
    "cudaErrorLaunchFailure": 719,
    "cudaErrorTensorMemoryLeak": 721,
    "cudaErrorSystemNotReady": 802,
    "cudaErrorMpsClientTerminated": 810,
    "cudaErrorExternalDevice": 911,
    "cudaErrorUnknown": 999,
}
# After these a process can do nothing more with CUDA, as CUDA's documentation has it of most. A
# GPU that fell off the bus is one of them.
_FATAL: Final = frozenset(
    (214, 220, 226, 700, 702, 709, 710, 714, 715, 716, 717, 718, 719, 721, 810, 911, 999)
)
_MEMORY: Final = "fewer instances or smaller batches take less, and so may what else is on it"
NO_FABRIC: Final = "on a machine of several GPUs with NVSwitch, nvidia-fabricmanager has to run"
_OLD: Final = "the driver is too old for the CUDA of ONNX Runtime: install a newer one"
_CURES: Final = {
    2: f"the memory of the GPU is full: {_MEMORY}",
    35: _OLD,
    46: "another process has the GPU for itself, or its compute mode forbids all: see nvidia-smi",
    209: "this ONNX Runtime has no code for a GPU of this compute capability",
    222: _OLD,
    802: NO_FABRIC,
}
_RESTART: Final = "nothing runs on the GPU in this process any more"


def explain(error: str) -> str:
    """The failure with its cure; empty where `error` is none of CUDA's that has one."""
    if found := _CAPPED.search(error):
        return (
            f"gpu_mem_limit leaves {found['free']} bytes of the GPU's memory, and {found['size']} "
            "are needed: raise it, or send smaller batches"
        )
    if found := _FULL.search(error):
        return f"the GPU has no {found['size']} bytes of memory left: {_MEMORY}"
    if found := _NO_CUDNN.search(error):
        return f"cuDNN is missing ({found['why'].strip()}): pip install 'penstock[gpu]'"
    number, words = _failure(error)
    cure = _RESTART if number in _FATAL else _CURES.get(number)
    return f"CUDA error {number}, {words}: {cure}" if cure else ""


def is_fatal(error: str) -> bool:
    """Whether the process can do nothing more on its GPU."""
    return _failure(error)[0] in _FATAL


def _failure(error: str) -> tuple[int, str]:
    """CUDA's number and words; 0 where there are none."""
    found = _FAILURE.search(error)
    if found is None:
        return 0, ""
    number = int(found["number"]) if found["number"] else _NUMBERS.get(found["name"], 0)
    return number, found["words"].strip()
