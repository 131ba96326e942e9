"""An ONNX model as a function, by ONNX Runtime; needs no torch."""

import ctypes
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np

from export.errors import GateRefused
from serving import dtypes
from serving.config import LEFT_OUT, left_out, traits
from serving.dtypes import Datatype
from serving.types import Array, Signature, TensorSpec

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read when the library is loaded
import onnxruntime

Outputs: TypeAlias = Mapping[str, Array]
Feed: TypeAlias = Mapping[str, Array]
CPU: Final = "CPUExecutionProvider"
CUDA: Final = "CUDAExecutionProvider"
_BFLOAT16: Final = 16  # onnx.TensorProto.BFLOAT16


class OnnxModel:
    """A session for the model in a file, or in memory, on `threads` threads (0: one a core).

    What is BF16 in the graph, which numpy does not have, is float32 here.
    GateRefused, with the runtime's words, where it cannot be loaded, or not for `provider`."""

    def __init__(self, model: bytes | Path, threads: int = 0, provider: str = CPU) -> None:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # errors are raised; the runtime would print them as well
        options.intra_op_num_threads = threads
        # torch takes turns with it: threads that wait for work must leave the cores to torch.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry(LEFT_OUT, left_out(traits(model), provider == CPU))
        data = model if isinstance(model, bytes) else os.fspath(model)
        if provider == CUDA and hasattr(onnxruntime, "preload_dlls"):
            onnxruntime.preload_dlls()  # CUDA's libraries from their wheels
        try:
            self._session = onnxruntime.InferenceSession(
                data, options, providers=list(dict.fromkeys((provider, CPU))), enable_fallback=0
            )
        except Exception as error:  # its errors have no common base
            raise GateRefused(f"ONNX Runtime cannot load the model: {error}") from error
        if provider not in self._session.get_providers():  # it goes on without, unasked
            raise GateRefused(f"ONNX Runtime's {provider} does not load")
        self._run_options = onnxruntime.RunOptions()
        self.inputs = [given.name for given in self._session.get_inputs()]
        self.outputs = [output.name for output in self._session.get_outputs()]
        nodes = (*self._session.get_inputs(), *self._session.get_outputs())
        self._bfloat16 = {node.name for node in nodes if node.type == Datatype.BF16.onnx}

    @property
    def signature(self) -> Signature:
        """The graph's inputs and outputs, whole shapes; GateRefused for what no client can send."""
        session = self._session
        return Signature(
            inputs=(
                *map(_spec, session.get_inputs()),
                *(_spec(node, optional=True) for node in session.get_overridable_initializers()),
            ),
            outputs=tuple(map(_spec, session.get_outputs())),
        )

    @property
    def shapes(self) -> dict[str, tuple[int | str | None, ...]]:
        """The dimensions of each tensor: sizes, names, or None. There are none of a tensor of which
        the runtime does not know how many there are."""
        session = self._session
        nodes = (
            *session.get_inputs(),
            *session.get_overridable_initializers(),
            *session.get_outputs(),
        )
        return {node.name: tuple(node.shape) for node in nodes}

    @property
    def symbols(self) -> dict[str, tuple[str, ...]]:
        """What the graph calls each dimension of each tensor; "" where it has no name for it."""
        return {
            name: tuple(dim if isinstance(dim, str) else "" for dim in shape)
            for name, shape in self.shapes.items()
        }

    def __call__(self, feed: Feed) -> Outputs:
        """All outputs; GateRefused, with the runtime's words, where it cannot run."""
        try:
            results = self._run(feed)
        except Exception as error:
            raise GateRefused(
                f"ONNX Runtime cannot run the model on {described(feed)}: {error}"
            ) from error
        return {
            name: np.asarray(result) for name, result in zip(self.outputs, results, strict=True)
        }

    def stop(self) -> None:
        """Have the run that is under way, and any after it, fail early; for any thread."""
        self._run_options.terminate = True

    def _run(self, feed: Feed) -> list[Any]:
        if not self._bfloat16:
            return list(self._session.run(self.outputs, dict(feed), self._run_options))
        values = {
            name: _words(array)
            if name in self._bfloat16
            else onnxruntime.OrtValue.ortvalue_from_numpy(array)
            for name, array in feed.items()
        }
        results = self._session.run_with_ort_values(self.outputs, values, self._run_options)
        return [
            _floats(result) if name in self._bfloat16 else result.numpy()
            for name, result in zip(self.outputs, results, strict=True)
        ]


def described(feed: Feed) -> str:
    """Its inputs by name, with their shapes."""
    return ", ".join(f"{name} {list(array.shape)}" for name, array in feed.items())


def held(datatype: Datatype) -> "np.dtype[Any]":
    """What OnnxModel takes and gives for it."""
    return np.dtype(np.float32) if datatype is Datatype.BF16 else datatype.numpy


def _words(floats: Array) -> Any:
    """The upper halves of float32, which is what BF16 is."""
    words = np.asarray(floats.view(np.uint32) >> 16, np.uint16)  # a scalar is no array otherwise
    return onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type(words, _BFLOAT16)


def _floats(value: Any) -> Array:
    data = ctypes.string_at(value.data_ptr(), value.tensor_size_in_bytes())
    words = np.frombuffer(data, np.uint16).astype(np.uint32) << 16
    return words.view(np.float32).reshape(value.shape())


def _spec(node: Any, optional: bool = False) -> TensorSpec:
    datatype = dtypes.from_onnx(node.type)
    if datatype is None:
        raise GateRefused(
            f"'{node.name}' is of type {node.type}, which the protocol cannot carry; "
            f"{dtypes.cure(node.type)}"
        )
    dims = tuple(dim if isinstance(dim, int) else -1 for dim in node.shape)
    return TensorSpec(node.name, datatype, dims, optional)
