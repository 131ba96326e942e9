"""Weights beside a model's file are read in the version's folder, whatever the runtime allows."""

import os
from pathlib import Path

import pytest
from tritonclient.grpc import model_config_pb2

from serving.dtypes import Datatype
from serving.engine.backends import weight_files
from serving.engine.backends.ort import OrtBackend
from serving.errors import LoadFailed
from tests.serving.graphs import keep_weights_in, model, write

FP32 = Datatype.FP32


def weighed(location: str, path: Path) -> Path:
    made = model({"x": (FP32, ["batch", 4])}, {"y": (FP32, ["batch", 2])})
    return write(keep_weights_in(made, location, 4), path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A version's folder, with weights inside and outside, and links from one to the other."""
    inside = tmp_path / "1"
    (inside / "deep").mkdir(parents=True)
    for place in ("weights", "1/weights", "1/deep/weights"):
        (tmp_path / place).write_bytes(bytes(16))
    (inside / "link").symlink_to("../weights")
    (inside / "far").symlink_to(tmp_path)
    (inside / "circle").symlink_to("circle")
    (inside / "near").symlink_to("deep/weights")
    return inside


def opened(folder: Path) -> None:
    OrtBackend(threads=1).open(model_config_pb2.ModelConfig(), folder).close()


@pytest.mark.parametrize(
    "location",
    ["../weights", "deep/../../weights", "link", "far/weights", "circle", "/etc/hostname"],
)
def test_a_place_outside_of_the_folder_is_refused_before_the_runtime_reads_it(
    folder: Path, location: str
) -> None:
    path = weighed(location, folder / "model.onnx")

    with pytest.raises(LoadFailed) as failure:
        opened(folder)

    assert failure.value.message == (
        f"{path}: its weights are in the file {location}, which leaves the version's folder: save "
        "the model with its weights beside it"
    )


@pytest.mark.parametrize("place", [b"*/_ORT_MEM_ADDR_/*", b"weights\0/../../weights"])
def test_what_the_runtime_takes_for_something_else_than_a_file_is_refused(
    folder: Path, place: bytes
) -> None:
    (folder / "*/_ORT_MEM_ADDR_/*").parent.mkdir(parents=True)
    (folder / "*/_ORT_MEM_ADDR_/*").write_bytes(bytes(16))

    with pytest.raises(LoadFailed, match="leaves the version's folder"):
        weight_files.check(folder / "model.onnx", [place])


def test_an_absolute_place_is_refused_wherever_it_is(folder: Path) -> None:
    """It would be another one once the version is copied."""
    with pytest.raises(LoadFailed, match="save the model with its weights beside it"):
        weight_files.check(folder / "model.onnx", [bytes(folder / "weights")])


@pytest.mark.parametrize("location", ["weights", "deep/weights", "./weights", "near"])
def test_a_place_inside_of_the_folder_is_read(folder: Path, location: str) -> None:
    weighed(location, folder / "model.onnx")

    opened(folder)


def test_a_model_that_is_a_link_has_its_weights_beside_what_it_leads_to(tmp_path: Path) -> None:
    """As the hub of Hugging Face keeps models."""
    blobs, folder = tmp_path / "blobs", tmp_path / "snapshot" / "1"
    blobs.mkdir()
    folder.mkdir(parents=True)
    weighed("weights", blobs / "a")
    (blobs / "b").write_bytes(bytes(16))
    os.symlink(blobs / "a", folder / "model.onnx")
    os.symlink(blobs / "b", folder / "weights")

    opened(folder)
