"""What the terminal is told once models are ready."""

import json
import shlex

from serving.announcement import announcement
from serving.dtypes import Datatype
from serving.gateway.server import Addresses
from serving.settings import Settings
from serving.types import ModelMetadata, TensorSpec

ADDRESSES = Addresses(http="0.0.0.0:8000", grpc="0.0.0.0:8001", metrics="0.0.0.0:8002")


def model(name: str, *dims: int, datatype: Datatype = Datatype.FP32) -> ModelMetadata:
    return ModelMetadata(
        name=name,
        version="1",
        versions=("1",),
        platform="onnxruntime_onnx",
        max_batch_size=8,
        inputs=(TensorSpec("x", datatype, dims),),
        outputs=(),
    )


def told(*models: ModelMetadata) -> list[str]:
    return announcement(models, Settings(), ADDRESSES).splitlines()


def test_many_models_take_several_lines_of_whole_names() -> None:
    names = [f"a-model-of-some-length-{number}" for number in range(12)]

    lines = told(*(model(name, -1, 4) for name in names))
    listed = lines[: next(at for at, line in enumerate(lines) if line.startswith("REST"))]

    assert len(listed) > 1
    assert max(map(len, listed)) <= 100
    found = " ".join(" ".join(listed).removeprefix("Models").split())
    assert found == ", ".join(f"{name} (version 1)" for name in names)


def test_a_server_without_models_says_so() -> None:
    assert told()[0] == "Models   none"


def test_the_example_asks_the_smallest_model_of_fixed_size() -> None:
    models = [
        model("tokens", -1, -1, datatype=Datatype.INT64),
        model("text", -1, 1, datatype=Datatype.BYTES),
        model("image", -1, 28, 28),
        model("features", -1, 8),
    ]

    (example,) = [line for line in told(*models) if line.startswith("curl")]

    assert "/v2/models/features/infer" in example
    assert '"data":[0,0,0,0,0,0,0,0]' in example


def test_the_example_can_be_pasted_whatever_the_names_are() -> None:
    quoted = ModelMetadata(
        name="of us/\u00df",
        version="1",
        versions=("1",),
        platform="onnxruntime_onnx",
        max_batch_size=8,
        inputs=(TensorSpec("it's", Datatype.FP32, (-1, 2)),),
        outputs=(),
    )
    (example,) = [line for line in told(quoted) if line.startswith("curl")]
    *_, url, option, body = shlex.split(example)

    assert url == "http://localhost:8000/v2/models/of%20us%2F%C3%9F/infer"
    assert (option, json.loads(body)["inputs"][0]["name"]) == ("-d", "it's")


def test_an_image_is_no_wall_of_zeros_in_the_terminal() -> None:
    (example,) = [line for line in told(model("image", -1, 28, 28)) if line.startswith("curl")]

    assert example == "curl -s http://localhost:8000/v2/models/image"
