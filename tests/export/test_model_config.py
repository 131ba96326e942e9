from pathlib import Path
from typing import Any

import onnxruntime
import pytest
from google.protobuf import text_format
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import model_config_pb2

from export import model_config
from export.errors import Incompatible
from serving.config import Source, complete, parse, resolve
from serving.dtypes import Datatype
from serving.types import Signature, TensorSpec
from training import spec
from training.checkpoint import Checkpoint
from training.spec import (
    TensorField,
    autoencoder,
    binary,
    classifier,
    decoder,
    forecaster,
)

PIXELS = classifier(TensorField("image", "UINT8", (1, 28, 28)), 10)
FEATURES = classifier(TensorField("features", "FP32", (64,)), 10)

MNIST = """\
# Written by `penstock export`, read by `penstock serve` and by Triton; yours to edit. Later
# exports keep this file, and refuse a model that does not fit it.
name: "mnist-cnn"
platform: "onnxruntime_onnx"
max_batch_size: 64
input {
  name: "image"
  data_type: TYPE_UINT8
  format: FORMAT_NCHW
  dims: [1, 28, 28]
}
output {
  name: "logits"
  data_type: TYPE_FP32
  dims: [10]
  label_filename: "labels.txt"
}
output {
  name: "probabilities"
  data_type: TYPE_FP32
  dims: [10]
  label_filename: "labels.txt"
}
default_model_filename: "model.onnx"
dynamic_batching {
  preferred_batch_size: [16, 32]
}
backend: "onnxruntime"
"""


def test_the_file_reads_as_a_person_would_write_it() -> None:
    assert model_config.render(model_config.build("mnist-cnn", PIXELS, 64)) == MNIST


def test_only_inputs_of_floating_point_can_be_refused_for_what_is_no_number() -> None:
    floats = model_config.build("digits-mlp", FEATURES, 64)

    assert floats.parameters["reject_non_finite_inputs"].string_value == "true"
    assert not model_config.build("mnist-cnn", PIXELS, 64).parameters


@pytest.mark.parametrize(("rows", "preferred"), [(64, [16, 32]), (31, [16]), (16, [16]), (8, [])])
def test_no_batch_is_preferred_that_the_model_does_not_take(
    rows: int, preferred: list[int]
) -> None:
    batching = model_config.build("m", PIXELS, rows).dynamic_batching

    assert list(batching.preferred_batch_size) == preferred


def test_a_model_of_one_row_at_a_time_is_not_batched() -> None:
    assert not model_config.build("m", PIXELS, 1).HasField("dynamic_batching")


@given(
    name=st.text(),
    input_name=st.text(),
    datatype=st.sampled_from(["UINT8", "FP32"]),
    shape=st.lists(st.integers(1, 2**31), min_size=1, max_size=4),
    classes=st.integers(1, 2**31),
    rows=st.integers(1, 2**31 - 1),
)
def test_what_is_written_reads_back_the_same(
    name: str, input_name: str, datatype: str, shape: list[int], classes: int, rows: int
) -> None:
    signature = classifier(TensorField(input_name, datatype, tuple(shape)), classes)
    config = model_config.build(name, signature, rows)

    text = model_config.render(config)

    assert text_format.Parse(text, model_config_pb2.ModelConfig()) == config


def test_a_missing_file_is_no_configuration(tmp_path: Path) -> None:
    assert model_config.read(tmp_path / "config.pbtxt") is None


@pytest.mark.parametrize(
    ("text", "named"),
    [
        (b'name: "m', r"config\.pbtxt:1:7"),
        (b"\nno_such_field: 1", r"config\.pbtxt:2:1: .*no_such_field"),
        (b"\xff\xfe", r"config\.pbtxt: cannot be read"),
    ],
)
def test_a_file_that_is_no_configuration_is_refused_by_its_place(
    tmp_path: Path, text: bytes, named: str
) -> None:
    path = tmp_path / "config.pbtxt"
    path.write_bytes(text)

    with pytest.raises(Incompatible, match=named):
        model_config.read(path)


def test_the_embedded_engine_takes_the_file_for_the_exported_graph(
    trained: Checkpoint, graph: bytes
) -> None:
    text = model_config.render(model_config.build("digits-mlp", trained.signature, 64))
    source = Source("config.pbtxt", text)
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])

    resolved = resolve(parse(text, source.name), "digits-mlp", source, files=["model.onnx"])
    config = complete(resolved, _signature(session), source)

    assert config.inputs == (TensorSpec("features", Datatype.FP32, (64,)),)
    assert [spec.name for spec in config.outputs] == ["logits", "probabilities"]


def _signature(session: Any) -> Signature:
    def specs(tensors: Any) -> tuple[TensorSpec, ...]:
        return tuple(
            TensorSpec(tensor.name, Datatype.FP32, (-1, *tensor.shape[1:])) for tensor in tensors
        )

    return Signature(specs(session.get_inputs()), specs(session.get_outputs()))


def build() -> Any:
    return model_config.build("mnist-cnn", PIXELS, 64)


@pytest.mark.parametrize(
    "edit",
    [
        "instance_group { count: 2 kind: KIND_CPU }",
        "version_policy { all {} }",
        'parameters { key: "intra_op_thread_count" value { string_value: "1" } }',
        "dynamic_batching { max_queue_delay_microseconds: 5000 }",
    ],
)
def test_a_matter_of_taste_is_no_difference(edit: str) -> None:
    existing = build()
    text_format.Merge(edit, existing)

    assert model_config.differences(existing, build()) == []


def test_what_a_server_takes_from_the_graph_may_be_left_out() -> None:
    existing = text_format.Parse("max_batch_size: 64", model_config_pb2.ModelConfig())

    assert model_config.differences(existing, build()) == []


def rename_input(config: Any) -> None:
    config.input[0].name = "pixels"


def widen_input(config: Any) -> None:
    config.input[0].data_type = model_config_pb2.TYPE_FP32


def resize_input(config: Any) -> None:
    config.input[0].dims[2] = 32


def drop_output(config: Any) -> None:
    del config.output[1]


def change_batch(config: Any) -> None:
    config.max_batch_size = 32


def change_backend(config: Any) -> None:
    config.backend = "tensorrt"


def change_file(config: Any) -> None:
    config.default_model_filename = "net.onnx"


@pytest.mark.parametrize(
    ("edit", "faults"),
    [
        (
            rename_input,
            [
                "input image is not there, but this model has TYPE_UINT8 [1, 28, 28]",
                "input pixels is TYPE_UINT8 [1, 28, 28], but this model has none of that name",
            ],
        ),
        (
            widen_input,
            ["input image is TYPE_FP32 [1, 28, 28], but this model has TYPE_UINT8 [1, 28, 28]"],
        ),
        (
            resize_input,
            ["input image is TYPE_UINT8 [1, 28, 32], but this model has TYPE_UINT8 [1, 28, 28]"],
        ),
        (
            drop_output,
            ["output probabilities is not there, but this model has TYPE_FP32 [10]"],
        ),
        (change_batch, ["max_batch_size is 32, but this model needs 64"]),
        (change_backend, ["backend is 'tensorrt', but this model needs 'onnxruntime'"]),
        (change_file, ["default_model_filename is 'net.onnx', but this model needs 'model.onnx'"]),
    ],
)
def test_a_difference_is_named(edit: Any, faults: list[str]) -> None:
    existing = build()
    edit(existing)

    assert model_config.differences(existing, build()) == faults


def test_only_outputs_with_a_value_for_each_label_name_the_labels() -> None:
    config = model_config.build("m", binary(FEATURES.inputs[0]), 64, "binary")

    named = {output.name: output.label_filename for output in config.output}
    assert named == {"logit": "", "probabilities": "labels.txt"}


def test_the_input_of_a_generator_may_be_left_to_chance() -> None:
    signature = decoder(64, (1, 28, 28))
    made, decoded = (
        model_config.build("m", signature, 64, task) for task in ("generation", "decoding")
    )
    assert made.parameters["latent"].string_value == "normal"
    assert made.parameters["prediction"] == decoded.parameters["prediction"]
    assert "latent" not in decoded.parameters


@pytest.mark.parametrize(
    ("signature", "task", "prediction"),
    [
        (autoencoder(PIXELS.inputs[0], 16), "reconstruction", "image"),
        (decoder(16, (1, 28, 28)), "decoding", "image"),
        (forecaster(TensorField("past", "FP32", (96, 2)), (24, 2)), "forecast", "forecast"),
    ],
)
def test_the_file_says_what_predict_shall_make_of_pictures_and_series(
    signature: spec.Signature, task: str, prediction: str
) -> None:
    config = model_config.build("m", signature, 64, task, ("load", "oil"))

    assert config.parameters["prediction"].string_value == prediction
    assert config.parameters["columns"].string_value == "load,oil"
    assert {output.label_filename for output in config.output} == {""}
