"""Where a variant is measured: on what would serve it."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import onnxruntime

from export import speed
from export.errors import GateRefused
from export.onnx_model import CPU, CUDA, OnnxModel
from serving.nvml import NoNvml, Nvml


@dataclass(frozen=True, slots=True)
class Place:
    """An execution provider, the `clock` that tells its speed, and the `machine` in words.

    `lacking` says of a place that another would be better than, what that one lacks."""

    provider: str
    clock: Callable[[], int]
    machine: str
    lacking: str = ""


def cpu(lacking: str = "") -> Place:
    """One thread of it, by the processor time that it takes."""
    return Place(CPU, time.thread_time_ns, speed.machine(), lacking)


def gpu_or_cpu(graph: bytes) -> Place:
    """The first GPU where ONNX Runtime executes `graph` on it, by the time that passes."""
    if lacking := _lacking(graph):
        return cpu(lacking)
    return Place(CUDA, time.perf_counter_ns, _gpu())


def _lacking(graph: bytes) -> str:
    version = onnxruntime.__version__
    if CUDA not in onnxruntime.get_available_providers():
        return f"ONNX Runtime {version} here has no {CUDA} (pip install 'penstock[gpu]')"
    try:
        OnnxModel(graph, provider=CUDA)
    except GateRefused as refused:
        return f"{refused}; penstock doctor tells why"
    return ""


def _gpu() -> str:
    try:
        nvml = Nvml()
        return f"{nvml.gpus()[0].name}, driver {nvml.driver}"
    except NoNvml:
        return "a GPU without NVML"
