"""An ONNX model as a function, by ONNX Runtime; needs no torch."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np

from export.errors import GateRefused
from serving import dtypes
from serving.types import Array, Signature, TensorSpec

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read when the library is loaded
import onnxruntime

Outputs: TypeAlias = Mapping[str, Array]
Feed: TypeAlias = Mapping[str, Array]
CPU: Final = "CPUExecutionProvider"
CUDA: Final = "CUDAExecutionProvider"


class OnnxModel:
    """A session for the model in a file, or in memory, on `threads` threads (0: one a core).

    GateRefused, with the runtime's words, where it cannot be loaded, or not for `provider`."""

    def __init__(self, model: bytes | Path, threads: int = 0, provider: str = CPU) -> None:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4  # errors are raised; the runtime would print them as well
        options.intra_op_num_threads = threads
        # torch takes turns with it: threads that wait for work must leave the cores to torch.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
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
        self.inputs = [given.name for given in self._session.get_inputs()]
        self.outputs = [output.name for output in self._session.get_outputs()]

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
    def symbols(self) -> dict[str, tuple[str, ...]]:
        """What the graph calls each dimension of each tensor; "" where it has no name for it."""
        session = self._session
        nodes = (
            *session.get_inputs(),
            *session.get_overridable_initializers(),
            *session.get_outputs(),
        )
        return {
            node.name: tuple(dim if isinstance(dim, str) else "" for dim in node.shape)
            for node in nodes
        }

    def __call__(self, feed: Feed) -> Outputs:
        """All outputs; GateRefused, with the runtime's words, where it cannot run."""
        try:
            results = self._session.run(self.outputs, dict(feed))
        except Exception as error:
            shapes = ", ".join(f"{name} {list(array.shape)}" for name, array in feed.items())
            raise GateRefused(f"ONNX Runtime cannot run the model on {shapes}: {error}") from error
        return {
            name: np.asarray(result) for name, result in zip(self.outputs, results, strict=True)
        }


def _spec(node: Any, optional: bool = False) -> TensorSpec:
    datatype = dtypes.from_onnx(node.type)
    if datatype is None:
        raise GateRefused(
            f"'{node.name}' is of type {node.type}, which the protocol cannot carry; export the "
            "model with tensors only"
        )
    dims = tuple(dim if isinstance(dim, int) else -1 for dim in node.shape)
    return TensorSpec(node.name, datatype, dims, optional)
