"""A real Triton takes the repository that export writes, as it is, and gives the same answers."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import tritonclient.grpc as grpcclient

from export import model_config, pipeline, publish
from export.job import OPSET, Job
from export.to_onnx import to_onnx
from serving.types import Array
from tests.export.checkpoints import untrained
from tests.export.test_publish import seal
from tests.triton.server import triton_server
from training.checkpoint import Checkpoint
from training.data.dataset import Dataset

MODELS = {"digits-mlp": "features", "mnist-cnn": "image"}  # and the name of the input


@pytest.fixture(scope="module")
def repository(trained: Checkpoint, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that takes numbers, through every gate, and one that takes pixels, which would
    have to be trained for minutes to get through them."""
    folder = tmp_path_factory.mktemp("repository")
    pipeline.export(Job(Path(trained.folder), folder))
    pixels = untrained("mnist-cnn", tmp_path_factory.mktemp("runs"))
    config = model_config.build("mnist-cnn", pixels.signature, 64)
    files = {model_config.MODEL: to_onnx(pixels, OPSET)}
    publish.publish(publish.Model(folder, config, pixels.labels), files, seal, None)
    return folder


@pytest.fixture(scope="module")
def client(repository: Path) -> Iterator[grpcclient.InferenceServerClient]:
    explicit = ("--model-control-mode=explicit", "--load-model=*")
    with (
        triton_server(repository, *explicit) as triton,
        grpcclient.InferenceServerClient(triton.grpc) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def images(digits: Dataset) -> dict[str, Array]:
    """Fifty handwritten digits, as numbers and as 28x28 pixels."""
    features = digits.test_x[:50]
    pixels = (features.reshape(-1, 1, 8, 8) * (255 / 16)).astype(np.uint8)
    enlarged = np.pad(pixels.repeat(3, 2).repeat(3, 3), ((0, 0), (0, 0), (2, 2), (2, 2)))
    return {"features": features, "image": enlarged}


def ask(client: Any, model: str, array: Array, version: str = "") -> Any:
    tensor = grpcclient.InferInput(MODELS[model], array.shape, _wire(array))
    tensor.set_data_from_numpy(array)
    return client.infer(model, [tensor], model_version=version, client_timeout=30)


def _wire(array: Array) -> str:
    return {"uint8": "UINT8", "float32": "FP32"}[array.dtype.name]


@pytest.mark.parametrize("model", MODELS)
def test_triton_loads_the_model_and_reads_its_configuration_as_we_do(
    client: Any, repository: Path, model: str
) -> None:
    ours = model_config.read(repository / model / model_config.FILENAME)
    reported = client.get_model_config(model).config

    assert ours is not None
    assert client.is_model_ready(model, "1")
    assert model_config.differences(reported, ours) == []
    assert (reported.name, reported.max_batch_size) == (model, 64)
    assert list(reported.input[0].dims) == list(ours.input[0].dims)
    assert reported.input[0].format == ours.input[0].format
    assert [list(output.dims) for output in reported.output] == [[10], [10]]
    assert list(reported.dynamic_batching.preferred_batch_size) == [16, 32]
    assert reported.parameters == ours.parameters


@pytest.mark.parametrize("model", MODELS)
def test_tritons_answers_to_fifty_images_are_those_of_onnx_runtime(
    client: Any, repository: Path, images: dict[str, Array], model: str
) -> None:
    array = images[MODELS[model]]
    session = onnxruntime.InferenceSession(
        repository / model / "1" / "model.onnx", providers=["CPUExecutionProvider"]
    )
    names = ["logits", "probabilities"]
    expected = dict(zip(names, session.run(names, {MODELS[model]: array}), strict=True))

    together = ask(client, model, array)
    alone = [ask(client, model, row[None]) for row in array[:5]]

    for name in names:
        np.testing.assert_allclose(together.as_numpy(name), expected[name], rtol=1e-4, atol=1e-5)
        for index, answer in enumerate(alone):
            row = expected[name][index : index + 1]
            np.testing.assert_allclose(answer.as_numpy(name), row, rtol=1e-4, atol=1e-5)


def test_triton_names_the_classes_by_our_labels(
    client: Any, images: dict[str, Array], digits: Dataset
) -> None:
    features = images["features"]
    tensor = grpcclient.InferInput("features", features.shape, "FP32")
    tensor.set_data_from_numpy(features)
    best = grpcclient.InferRequestedOutput("probabilities", class_count=1)

    answer = client.infer("digits-mlp", [tensor], outputs=[best], client_timeout=30)

    labels = [row[0].decode().split(":")[2] for row in answer.as_numpy("probabilities")]
    right = [label == digits.labels[y] for label, y in zip(labels, digits.test_y[:50], strict=True)]
    assert sum(right) >= 45


def test_a_running_triton_takes_the_next_version(
    client: Any, repository: Path, trained: Checkpoint, images: dict[str, Array]
) -> None:
    pipeline.export(Job(Path(trained.folder), repository, version=2))

    client.load_model("digits-mlp")

    assert client.is_model_ready("digits-mlp", "2")
    assert ask(client, "digits-mlp", images["features"]).get_response().model_version == "2"
