"""A model behind FastAPI as most people write it: pydantic in, pydantic out, one image a run.

python plain_app.py model.onnx 8000
"""

import sys

import numpy as np
import onnxruntime
import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel


class Image(BaseModel):
    """Normalised pixels (1, 28, 28)."""

    image: list[list[list[float]]]


class Prediction(BaseModel):
    """The most probable class and the probabilities of all."""

    label: int
    probabilities: list[float]


def application(file: str) -> FastAPI:
    """The web application around one ONNX file."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    app = FastAPI()

    @app.post("/predict")
    def predict(image: Image) -> Prediction:
        batch = np.array([image.image], dtype=np.float32)
        (probabilities,) = session.run(["probabilities"], {"image": batch})
        return Prediction(
            label=int(probabilities[0].argmax()), probabilities=probabilities[0].tolist()
        )

    @app.get("/health")
    def health() -> None:
        """Answers as soon as the model is loaded."""

    return app


if __name__ == "__main__":
    uvicorn.run(application(sys.argv[1]), port=int(sys.argv[2]), access_log=False)
