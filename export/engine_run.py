"""Runs an engine, to hold its answers against those of ONNX Runtime."""

import ctypes
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any, Final

import numpy as np

from export.engine_target import begun, tensorrt
from export.errors import EngineRefused
from export.onnx_model import Outputs
from serving.types import Array

_TO_DEVICE: Final = 1
_TO_HOST: Final = 2


class Memory:
    """The current GPU's, by CUDA's runtime library."""

    def __init__(self, runtime: Any) -> None:
        """EngineRefused with CUDA's error where there is no stream to be had."""
        self._runtime = runtime
        self.stream = ctypes.c_void_p()
        self._call("cudaStreamCreate", ctypes.byref(self.stream))

    def allocate(self, size: int, until: ExitStack) -> ctypes.c_void_p:
        """So many bytes, until the stack is closed."""
        place = ctypes.c_void_p()
        self._call("cudaMalloc", ctypes.byref(place), ctypes.c_size_t(max(size, 1)))
        until.callback(self._runtime.cudaFree, place)
        return place

    def upload(self, place: ctypes.c_void_p, array: Array) -> None:
        """Copy a contiguous array to the device."""
        self._copy(place, array.ctypes.data_as(ctypes.c_void_p), array.nbytes, _TO_DEVICE)

    def download(self, array: Array, place: ctypes.c_void_p) -> None:
        """Fill an array from the device."""
        self._copy(array.ctypes.data_as(ctypes.c_void_p), place, array.nbytes, _TO_HOST)

    def finish(self) -> None:
        """Wait until everything of the stream is done."""
        self._call("cudaStreamSynchronize", self.stream)

    def _copy(self, target: Any, source: Any, size: int, kind: int) -> None:
        self._call("cudaMemcpy", target, source, ctypes.c_size_t(size), ctypes.c_int(kind))

    def _call(self, function: str, *arguments: Any) -> None:
        if result := getattr(self._runtime, function)(*arguments):
            raise EngineRefused(f"{function} fails with CUDA's error {result}")


class Engine:
    """A serialised engine as a function of arrays."""

    def __init__(self, plan: bytes, memory: Memory) -> None:
        """EngineRefused where TensorRT does not take it here."""
        self._trt = tensorrt()
        self._memory = memory
        # An engine needs its runtime as long as it lives, and that its logger.
        self._logger = self._trt.Logger(self._trt.Logger.ERROR)
        self._runtime = begun(self._trt.Runtime, self._logger)
        self._engine = self._runtime.deserialize_cuda_engine(plan)
        if self._engine is None:
            raise EngineRefused("TensorRT does not take the engine that it has built")
        self._context = self._engine.create_execution_context()
        if self._context is None:
            raise EngineRefused("the GPU has no memory left to run the engine in")
        count = self._engine.num_io_tensors
        names = [self._engine.get_tensor_name(index) for index in range(count)]
        is_input = self._trt.TensorIOMode.INPUT
        self.inputs = [n for n in names if self._engine.get_tensor_mode(n) == is_input]
        self.outputs = [n for n in names if n not in self.inputs]

    def __call__(self, feed: Mapping[str, Array]) -> Outputs:
        """All outputs; EngineRefused where a shape is in no profile, or the run fails."""
        with ExitStack() as held:
            for name in self.inputs:
                self._give(name, np.ascontiguousarray(feed[name]), held)
            places = {name: self._expect(name, held) for name in self.outputs}
            if not self._context.execute_async_v3(self._memory.stream.value or 0):
                raise EngineRefused("the engine fails to run")
            self._memory.finish()
            for array, place in places.values():
                self._memory.download(array, place)
            return {name: array for name, (array, _) in places.items()}

    def _give(self, name: str, array: Array, held: ExitStack) -> None:
        if not self._context.set_input_shape(name, array.shape):
            raise EngineRefused(f"the engine takes no {name} of the shape {list(array.shape)}")
        place = self._memory.allocate(array.nbytes, held)
        self._memory.upload(place, array)
        self._context.set_tensor_address(name, place.value)

    def _expect(self, name: str, held: ExitStack) -> tuple[Array, ctypes.c_void_p]:
        shape = tuple(self._context.get_tensor_shape(name))
        array = np.empty(shape, self._trt.nptype(self._engine.get_tensor_dtype(name)))
        place = self._memory.allocate(array.nbytes, held)
        self._context.set_tensor_address(name, place.value)
        return array, place
