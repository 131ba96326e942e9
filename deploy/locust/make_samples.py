"""Make the kit's samples: test data of a recipe, and what the exported model answers to it.

python deploy/locust/make_samples.py mnist-cnn model_repository/mnist-cnn/1 100
"""

import sys
from pathlib import Path

import numpy as np
import onnxruntime

from training.catalog import RECIPES, load_dataset

SAMPLES = Path(__file__).parent / "samples"


def make(recipe: str, version: Path, count: int) -> Path:
    """Write `samples/RECIPE.npz` from the first `count` rows of the recipe's test set."""
    dataset = load_dataset(RECIPES[recipe].dataset, None)
    session = onnxruntime.InferenceSession(version / "model.onnx")
    rows = dataset.test_x[:count]
    field = session.get_inputs()[0].name
    [probabilities] = session.run(["probabilities"], {field: rows})
    file = SAMPLES / f"{recipe}.npz"
    arrays = {field: rows, "probabilities": probabilities, "labels": np.array(dataset.labels)}
    np.savez_compressed(file, **arrays)
    return file


if __name__ == "__main__":
    name, folder, number = sys.argv[1:]
    print(make(name, Path(folder), int(number)))
