"""Triton's `repeat` example backend, written in Python: a response for each element of IN.

With the parameter `marks_last` the last response says of itself that it is, as that of a model
does that gives one response a request; otherwise an end without a response follows it.
"""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import triton_python_backend_utils as triton  # type: ignore[import-not-found]


class TritonPythonModel:
    def initialize(self, args: dict[str, str]) -> None:
        config = json.loads(args["model_config"])
        self.marks_last = "marks_last" in config["parameters"]
        self.outputs = [output["name"] for output in config["output"]]

    def execute(self, requests: Sequence[Any]) -> None:
        for request in requests:
            self._answer(request.get_response_sender(), request)

    def _answer(self, sender: Any, request: Any) -> None:
        elements = triton.get_input_tensor_by_name(request, "IN").as_numpy()
        for index, element in enumerate(elements):
            tensors = {"OUT": np.array([element], np.int32), "IDX": np.array([index], np.uint32)}
            response = triton.InferenceResponse(
                [triton.Tensor(name, tensors[name]) for name in self.outputs]
            )
            is_last = self.marks_last and index == len(elements) - 1
            sender.send(response, triton.TRITONSERVER_RESPONSE_COMPLETE_FINAL if is_last else 0)
        if not self.marks_last or not len(elements):
            sender.send(flags=triton.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
