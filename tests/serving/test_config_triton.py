"""A real Triton takes what `penstock config` prints, as it is and with its options set."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
import tritonclient.grpc as grpcclient

from serving.config import parse
from serving.config_command import describe
from serving.dtypes import Datatype
from tests.serving.graphs import model, write
from tests.triton.server import triton_server

FP32, INT64, BYTES = Datatype.FP32, Datatype.INT64, Datatype.BYTES
MODELS: Final = {
    "images": model(
        {"image": (Datatype.UINT8, ["batch", 3, "height", "width"])},
        {"logits": (FP32, ["batch", 10])},
    ),
    "pairs": model(
        {"ids": (INT64, ["batch", "length"]), "mask": (Datatype.BOOL, ["batch", "length"])},
        {"first": (FP32, ["batch", None]), "second": (Datatype.FP16, [None, 2])},
    ),
    "texts": model({"text": (BYTES, ["batch", 1])}, {"text_out": (BYTES, ["batch", 1])}),
    "rows": model({"x": (FP32, ["batch"])}, {"best": (INT64, ["batch"])}),
    "alone": model({"x": (FP32, [1, "length"])}, {"y": (FP32, [2, 3])}),
    "defaults": model(
        {"x": (FP32, [2]), "bias": (FP32, [2])}, {"y": (FP32, [2])}, defaults=["bias"]
    ),
}
# The models that are served once more, with every option set.
SET: Final = {f"{name}_set": name for name in ("images", "texts", "alone", "defaults")}


def options_set(text: str) -> str:
    """The text with every option uncommented, of several version policies the last."""
    return re.sub(r"(?m)^( *)#(?! |version_policy \{ [ls])", r"\1", text)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("repository")
    for name, made in MODELS.items():
        write(made, folder / name / "1/model.onnx")
        text = describe(folder / name / "1/model.onnx", name)
        (folder / name / "config.pbtxt").write_text(text)
    for name, of in SET.items():
        file = write(MODELS[of], folder / name / "1/other.onnx")
        (folder / name / "config.pbtxt").write_text(options_set(describe(file, name)))
        (folder / name / "labels.txt").write_text("a\nb\n")
    return folder


@pytest.fixture(scope="module")
def client(repository: Path) -> Iterator[Any]:
    explicit = ("--model-control-mode=explicit", "--disable-auto-complete-config")
    with (
        triton_server(repository, *explicit) as triton,
        grpcclient.InferenceServerClient(triton.grpc) as client,
    ):
        yield client


@pytest.mark.parametrize("name", [*MODELS, *SET])
def test_triton_reads_the_text_as_we_do(client: Any, repository: Path, name: str) -> None:
    client.load_model(name)

    reported = client.get_model_config(name).config
    ours = parse((repository / name / "config.pbtxt").read_text(), name)
    assert (reported.name, reported.max_batch_size) == (name, ours.max_batch_size)
    assert list(reported.input) == list(ours.input)
    assert list(reported.output) == list(ours.output)
    assert reported.HasField("dynamic_batching") is ours.HasField("dynamic_batching")
    assert reported.parameters == ours.parameters
    assert reported.optimization.graph == ours.optimization.graph
    assert list(reported.model_warmup) == list(ours.model_warmup)
    assert reported.response_cache == ours.response_cache
    client.unload_model(name)


def test_every_option_was_set(repository: Path) -> None:
    ours = parse((repository / "images_set/config.pbtxt").read_text(), "images_set")

    assert ours.version_policy.HasField("all")
    assert ours.dynamic_batching.default_queue_policy.max_queue_size == 256
    assert ours.output[0].label_filename == "labels.txt"
    assert ours.dynamic_batching.priority_levels == 2
    assert ours.response_cache.enable
    assert ours.model_warmup[0].inputs["image"].zero_data
    assert ours.parameters["intra_op_thread_count"].string_value == "4"
