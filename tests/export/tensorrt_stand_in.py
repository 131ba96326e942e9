"""TensorRT as far as the export asks it, where there is none: its engines are ONNX files, which
ONNX Runtime executes on the addresses that it is given. The names are those of TensorRT 10."""

import ctypes
import json
from collections.abc import Sequence
from enum import Enum
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnxruntime

__version__ = "10.16.1.11"

BuilderFlag = Enum("BuilderFlag", "TF32 FP16 INT8")
MemoryPoolType = Enum("MemoryPoolType", "WORKSPACE")
TensorIOMode = Enum("TensorIOMode", "INPUT OUTPUT")

# What there is not: a driver that fits, or memory of the GPU.
lacks: set[str] = set()


class ILogger:
    INTERNAL_ERROR, ERROR, WARNING = range(3)

    def __init__(self) -> None:
        self.made = True

    def log(self, severity: int, message: str) -> None:
        """To be overridden."""


class Logger(ILogger):
    def __init__(self, severity: int) -> None:
        super().__init__()


class IProgressMonitor:
    def __init__(self) -> None:
        self.made = True


class _Config:
    def __init__(self) -> None:
        self.flags = {"TF32"}
        self.pools: dict[str, int] = {}
        self.profiles: list[_Profile] = []
        self.progress_monitor: Any = None
        self._cache = b""

    def set_memory_pool_limit(self, pool: MemoryPoolType, size: int) -> None:
        self.pools[pool.name] = size

    def set_flag(self, flag: BuilderFlag) -> None:
        self.flags.add(flag.name)

    def clear_flag(self, flag: BuilderFlag) -> None:
        self.flags.discard(flag.name)

    def add_optimization_profile(self, profile: "_Profile") -> None:
        self.profiles.append(profile)

    def create_timing_cache(self, learnt: bytes) -> bytes | None:
        return None if learnt == b"of another version" else learnt or b"new"

    def set_timing_cache(self, cache: bytes, ignore_mismatch: bool) -> bool:
        assert not ignore_mismatch
        if cache == b"of another GPU":
            return False
        self._cache = cache
        return True

    def get_timing_cache(self) -> Any:
        return SimpleNamespace(serialize=lambda: self._cache + b", learnt")


class _Profile:
    def __init__(self) -> None:
        self.shapes: dict[str, tuple[Sequence[int], ...]] = {}

    def set_shape(self, name: str, low: Sequence[int], opt: Sequence[int], high: Any) -> None:
        self.shapes[name] = (tuple(low), tuple(opt), tuple(high))


class Builder:
    """Builds nothing of a graph whose producer asks for that."""

    def __init__(self, logger: ILogger) -> None:
        assert logger.made
        self._logger = logger
        if "driver" in lacks:
            logger.log(ILogger.ERROR, "CUDA initialization failure with error: 35")
            raise TypeError("pybind11::init(): factory function returned nullptr")

    def create_network(self, flags: int) -> Any:
        return SimpleNamespace(graph=b"")

    def create_builder_config(self) -> _Config:
        return _Config()

    def create_optimization_profile(self) -> _Profile:
        return _Profile()

    def build_serialized_network(self, network: Any, config: _Config) -> bytes | None:
        config.progress_monitor.phase_start("Building Engine", None, 2)
        assert config.progress_monitor.step_complete("Building Engine", 0)
        config.progress_monitor.phase_finish("Building Engine")
        if b"unbuildable" in network.graph:
            self._logger.log(ILogger.WARNING, "it is large")
            self._logger.log(ILogger.ERROR, "no kernel for it")
            return None
        profiles = [profile.shapes for profile in config.profiles]
        asked = {"flags": sorted(config.flags), "pools": config.pools, "profiles": profiles}
        return json.dumps(asked).encode() + b"\n" + bytes(network.graph)


class OnnxParser:
    def __init__(self, network: Any, logger: ILogger) -> None:
        self._network = network
        self.num_errors = 0

    def parse(self, graph: bytes) -> bool:
        self._network.graph = graph
        self.num_errors = int(not graph)
        return bool(graph)

    def get_error(self, index: int) -> Any:
        return SimpleNamespace(desc=lambda: "no graph")


class Runtime:
    def __init__(self, logger: ILogger) -> None:
        if "driver" in lacks:
            raise TypeError("pybind11::init(): factory function returned nullptr")

    def deserialize_cuda_engine(self, plan: bytes) -> "_Engine | None":
        if b"\n" not in plan:
            return None
        profiles = asked(plan).get("profiles", [{}])
        return _Engine(plan.partition(b"\n")[2], profiles[0] if profiles else {})


def asked(plan: bytes) -> Any:
    """What the build of an engine was asked for."""
    return json.loads(plan.partition(b"\n")[0])


def nptype(kind: str) -> Any:
    return np.float32 if kind == "tensor(float)" else np.int64


class _Engine:
    def __init__(self, graph: bytes, profile: dict[str, Any]) -> None:
        self.profile = profile
        self.session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
        self._inputs: dict[str, str] = {node.name: node.type for node in self.session.get_inputs()}
        self._outputs: dict[str, str] = {
            node.name: node.type for node in self.session.get_outputs()
        }
        self._names = [*self._inputs, *self._outputs]
        self.num_io_tensors = len(self._names)

    def get_tensor_name(self, index: int) -> str:
        return self._names[index]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return TensorIOMode.INPUT if name in self._inputs else TensorIOMode.OUTPUT

    def get_tensor_dtype(self, name: str) -> str:
        return (self._inputs | self._outputs)[name]

    def create_execution_context(self) -> "_Context | None":
        return None if "memory" in lacks else _Context(self)


class _Context:
    def __init__(self, engine: _Engine) -> None:
        self._engine = engine
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._places: dict[str, int] = {}

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self._shapes[name] = shape
        low, _, high = self._engine.profile.get(name, ([1] * len(shape), 0, [64] * len(shape)))
        return all(a <= size <= b for a, size, b in zip(low, shape, high, strict=True))

    def set_tensor_address(self, name: str, place: int) -> bool:
        self._places[name] = place
        return True

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        nodes = {node.name: node.shape for node in self._engine.session.get_outputs()}
        rows = next(iter(self._shapes.values()))[0]
        return (rows, *(int(dim) for dim in nodes[name][1:]))

    def execute_async_v3(self, stream: int) -> bool:
        session = self._engine.session
        feed = {name: self._array(name, session) for name in self._shapes}
        for node, result in zip(session.get_outputs(), session.run(None, feed), strict=True):
            ctypes.memmove(self._places[node.name], result.ctypes.data, result.nbytes)
        return True

    def _array(self, name: str, session: Any) -> Any:
        [kind] = [node.type for node in session.get_inputs() if node.name == name]
        dtype = np.dtype({"tensor(uint8)": np.uint8, "tensor(float)": np.float32}[kind])
        shape = self._shapes[name]
        memory = ctypes.string_at(self._places[name], int(np.prod(shape)) * dtype.itemsize)
        return np.frombuffer(memory, dtype).reshape(shape)
