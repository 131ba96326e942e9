"""Asking /predict, and the tensor endpoint for the same."""

import io
from typing import Any, Final

import httpx
import numpy as np
from PIL import Image

from serving.types import Array

CNN: Final = "/predict/mnist-cnn"
MLP: Final = "/predict/digits-mlp"
TYPES: Final = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp"}
LABEL: Final = "[request id: <id_unknown>] "
SHAPE: Final = f"{LABEL}unexpected shape for input 'features' for model 'digits-mlp'. "
PARSE: Final = "failed to parse the request JSON buffer: "
ORIENTATION: Final = 0x0112
FORMATS: Final = "expected an image (PNG, JPEG, WEBP), got "


def encoded(picture: Image.Image, format: str = "PNG", **options: Any) -> bytes:
    content = io.BytesIO()
    picture.save(content, format, **options)
    return content.getvalue()


def probabilities(prediction: Any) -> Array:
    """The probabilities of all classes, in the order of the classes."""
    by_label = {each["label"]: each["probability"] for each in prediction["classes"]}
    return np.array([by_label[str(label)] for label in range(10)], np.float32)


def predict(rest: httpx.Client, content: bytes, type: str = "image/png", **options: Any) -> Any:
    """The predictions for a body; all classes of each."""
    response = rest.post(
        CNN,
        content=content,
        headers={"Content-Type": type},
        params={"top_k": 10} | options,
    )
    assert response.status_code == 200, response.text
    return response.json()["predictions"]


def refused(response: httpx.Response) -> str:
    assert response.status_code == 400, response.text
    document = response.json()
    assert list(document) == ["error"]
    return str(document["error"])


def asked(rest: httpx.Client, pixels: Array) -> Array:
    """The probabilities that the tensor endpoint gives for 28 x 28 pixels."""
    body = {
        "inputs": [
            {
                "name": "image",
                "datatype": "UINT8",
                "shape": [1, 1, 28, 28],
                "data": pixels.reshape(-1).tolist(),
            }
        ],
        "outputs": [{"name": "probabilities"}],
    }
    answer = rest.post("/v2/models/mnist-cnn/infer", json=body).json()
    return np.array(answer["outputs"][0]["data"], np.float32)
