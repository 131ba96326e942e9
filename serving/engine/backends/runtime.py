"""ONNX Runtime itself: its module, and what it calls the providers."""

import os
from typing import Any, Final

from serving.errors import LoadFailed

# ONNX Runtime records telemetry in the user's cache folder unless told not to before it is loaded.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

CPU: Final = "CPUExecutionProvider"
CUDA: Final = "CUDAExecutionProvider"
TENSORRT: Final = "TensorrtExecutionProvider"
OPENVINO: Final = "OpenVINOExecutionProvider"

_LETS_OTHERS_RUN: Final = (1, 31)


def load_runtime() -> Any:
    """The `onnxruntime` module; LoadFailed names the extra to install where there is none."""
    try:
        import onnxruntime
    except ImportError as error:
        raise LoadFailed(
            f"ONNX Runtime cannot be imported ({error}); install it with "
            "pip install 'penstock[cpu]', or 'penstock[gpu]' for NVIDIA GPUs"
        ) from error
    return onnxruntime


def lets_others_run() -> bool:
    """Whether Python's other threads run while a session is made.

    Releases before 1.31 keep the interpreter's lock until it is made, however many minutes that is.
    """
    major, minor, *_ = load_runtime().__version__.split(".")
    return (int(major), int(minor)) >= _LETS_OTHERS_RUN
