"""A model behind BentoML with adaptive batching, by its own documentation; MODEL names the file."""

import os
from typing import Annotated

import bentoml  # type: ignore[import-not-found]
import numpy as np
import onnxruntime
from bentoml.validators import DType, Shape  # type: ignore[import-not-found]

Pixels = Annotated[np.ndarray, DType("float32"), Shape((-1, 1, 28, 28))]


# BentoML reads the annotations, and knows arrays without parameters only.
@bentoml.service(workers=1, metrics={"enabled": False})
class Classifier:
    """Normalised pixels (N, 1, 28, 28) to probabilities (N, 10)."""

    def __init__(self) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(
            os.environ["MODEL"], options, providers=["CPUExecutionProvider"]
        )

    @bentoml.api(batchable=True, max_batch_size=32, route="/predict")  # type: ignore[untyped-decorator]
    def predict(self, image: Pixels) -> np.ndarray:
        (probabilities,) = self.session.run(["probabilities"], {"image": image})
        result: np.ndarray = probabilities
        return result
