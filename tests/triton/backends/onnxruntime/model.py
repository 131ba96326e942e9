"""Triton's `onnxruntime` backend, written in Python.

The Triton that pip can install comes without the C++ backend of that name. Triton takes a folder
`<backends>/onnxruntime/model.py` in its place, so that it serves our repository unchanged. Like
the real one it refuses a configuration that does not fit the graph.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import triton_python_backend_utils as triton  # type: ignore[import-not-found]

# config.pbtxt's name of a type -> ONNX Runtime's, where one does not follow from the other.
RENAMED = {"fp16": "float16", "fp32": "float", "fp64": "double", "bf16": "bfloat16"}
# Triton holds texts as bytes, ONNX Runtime as what Python calls a string.
_text = np.frompyfunc(bytes.decode, 1, 1)


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        config = json.loads(args["model_config"])
        file = config["default_model_filename"] or "model.onnx"
        path = Path(args["model_repository"], args["model_version"], file)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
        self.batches = config["max_batch_size"] > 0
        named = {tensor["name"] for tensor in config["input"]}
        optional = self.session.get_overridable_initializers()
        inputs = [*self.session.get_inputs(), *(one for one in optional if one.name in named)]
        # Triton itself says what is in the control inputs of a sequence.
        controls = config.get("sequence_batching", {}).get("control_input", ())
        hidden = {control["name"] for control in controls}
        inputs = [tensor for tensor in inputs if tensor.name not in hidden]
        _check(config["input"], inputs, self.batches)
        _check(config["output"], self.session.get_outputs(), self.batches)

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        if not self.batches:
            return [self._respond(self._run(_feeds([request]))) for request in requests]
        rows = [len(request.inputs()[0].as_numpy()) for request in requests]
        outputs = self._run(_feeds(requests))
        ends = np.cumsum(rows)
        return [
            self._respond({name: array[end - count : end] for name, array in outputs.items()})
            for count, end in zip(rows, ends, strict=True)
        ]

    def _run(self, feeds: dict[str, Any]) -> dict[str, Any]:
        names = [output.name for output in self.session.get_outputs()]
        return dict(zip(names, self.session.run(names, feeds), strict=True))

    def _respond(self, outputs: dict[str, Any]) -> Any:
        tensors = [triton.Tensor(name, np.ascontiguousarray(a)) for name, a in outputs.items()]
        return triton.InferenceResponse(tensors)


def _feeds(requests: Sequence[Any]) -> dict[str, Any]:
    """The requests' inputs by name, one below the other."""
    names = [tensor.name() for tensor in requests[0].inputs()]
    return {name: np.concatenate([_array(request, name) for request in requests]) for name in names}


def _array(request: Any, name: str) -> Any:
    array = triton.get_input_tensor_by_name(request, name).as_numpy()
    return _text(array) if array.dtype.hasobject else array


def _check(configured: Sequence[Any], graph: Sequence[Any], batches: bool) -> None:
    wanted = {tensor.name: (tensor.type, _dims(tensor.shape[batches:])) for tensor in graph}
    found = {tensor["name"]: (_type(tensor), _shape(tensor)) for tensor in configured}
    if found != wanted:
        raise triton.TritonModelException(f"config.pbtxt has {found}, the graph has {wanted}")


def _type(tensor: dict[str, str]) -> str:
    name = tensor["data_type"].removeprefix("TYPE_").lower()
    return f"tensor({RENAMED.get(name, name)})"


def _shape(tensor: dict[str, Any]) -> list[int]:
    """The shape that a configuration gives the graph, as integers or as texts of them."""
    shape = tensor["reshape"]["shape"] if "reshape" in tensor else tensor["dims"]
    return [int(dim) for dim in shape]


def _dims(dims: Sequence[Any]) -> list[int]:
    """A dimension that varies is a name in ONNX, -1 in config.pbtxt."""
    return [dim if isinstance(dim, int) else -1 for dim in dims]
