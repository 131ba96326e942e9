"""What is wrong with a file that ONNX Runtime cannot load is said with its cure."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from onnx import TensorProto, helper
from tritonclient.grpc import model_config_pb2

from serving.dtypes import Datatype
from serving.engine.backends.ort import OrtBackend
from serving.engine.backends.ort_errors import explain
from serving.errors import LoadFailed
from tests.serving.graphs import keep_weights_in, model, write

FP32 = Datatype.FP32


def small() -> Any:
    return model({"x": (FP32, ["batch", 4])}, {"y": (FP32, ["batch", 2])})


def of_opset(number: int) -> Any:
    made = small()
    made.opset_import[0].version = number
    return made


def of_ir_version(number: int) -> Any:
    made = small()
    made.ir_version = number
    return made


def with_operator(name: str, domain: str = "") -> Any:
    made = small()
    made.graph.node.append(helper.make_node(name, ["x"], ["z"], domain=domain))
    if domain:
        made.opset_import.append(helper.make_opsetid(domain, 1))
    return made


def for_other_types() -> Any:
    made = small()
    made.graph.node.append(helper.make_node("Cast", ["x"], ["short"], to=TensorProto.INT16))
    made.graph.node.append(helper.make_node("Max", ["short", "short"], ["z"], name="largest"))
    made.graph.output.append(helper.make_tensor_value_info("z", TensorProto.INT16, ["n", 4]))
    return made


def with_texts(locale: str) -> Any:
    made = small()
    how = {"locale": locale, "case_change_action": "LOWER"}
    made.graph.node.append(helper.make_node("StringNormalizer", ["t"], ["z"], **how))
    for texts, name in ((made.graph.input, "t"), (made.graph.output, "z")):
        texts.append(helper.make_tensor_value_info(name, TensorProto.STRING, ["n"]))
    return made


def with_maps() -> Any:
    made = small()
    classes = {"classlabels_int64s": [0, 1], "domain": "ai.onnx.ml"}
    made.graph.node.append(helper.make_node("ZipMap", ["y"], ["z"], **classes))
    made.opset_import.append(helper.make_opsetid("ai.onnx.ml", 1))
    maps = made.graph.output.add(name="z").type.sequence_type.elem_type.map_type
    maps.key_type = TensorProto.INT64
    maps.value_type.CopyFrom(helper.make_tensor_type_proto(TensorProto.FLOAT, []))
    return made


def with_short_integers() -> Any:
    made = small()
    made.opset_import[0].version = 21
    made.graph.node.append(helper.make_node("Cast", ["s"], ["z"], to=TensorProto.FLOAT))
    made.graph.input.append(helper.make_tensor_value_info("s", TensorProto.INT4, ["n"]))
    made.graph.output.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, ["n"]))
    return made


def weighed(location: str) -> Any:
    return keep_weights_in(small(), location, 4)


def renamed(name: str) -> bytes:
    """A graph in whose file another name stands in the place of this one."""
    data: bytes = small().SerializeToString()
    assert name.encode() in data
    return data.replace(name.encode(), b"\xff" * len(name))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "1").mkdir()
    (tmp_path / "weights").write_bytes(bytes(16))
    (tmp_path / "1/short").write_bytes(bytes(7))
    (tmp_path / "1/link").symlink_to("../weights")
    return tmp_path / "1"


def failure_of(folder: Path) -> str:
    with pytest.raises(LoadFailed) as failure:
        OrtBackend(threads=1).open(model_config_pb2.ModelConfig(), folder)
    return failure.value.message


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: of_opset(99), "its graph is of opset 99 (ai.onnx), and this runtime knows up to "),
        (lambda: of_ir_version(99), "its file is of IR version 99, and this runtime reads up to "),
        (lambda: with_operator("Bogus"), "opset 17 has no operator Bogus"),
        (lambda: with_operator("Add", "my.ops"), "its operator my.ops:Add is a custom one"),
        (for_other_types, "it cannot execute the operator Max of node 'largest' here, at least "),
        (lambda: with_texts("xx_YY.UTF-8"), "localedef -i xx_YY -f UTF-8 xx_YY.UTF-8"),
        (lambda: weighed("gone"), "1/gone, which does not exist: copy it beside the model"),
        (lambda: weighed("short"), "ends before 'weights' does: copy it again"),
    ],
)
def test_a_model_that_the_runtime_refuses_is_explained(
    folder: Path, make: Callable[[], Any], message: str
) -> None:
    path = write(make(), folder / "model.onnx")

    failure = failure_of(folder)

    assert failure.startswith(f"{path}: ONNX Runtime ")
    assert message in failure
    assert "onnxruntime_src" not in failure


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (with_maps, "cannot carry; penstock import makes tensors of such maps, or convert the"),
        (with_short_integers, "tensor(int4), which the protocol cannot carry; have the graph cast"),
    ],
)
def test_a_type_that_cannot_be_carried_is_told_with_its_cure(
    folder: Path, make: Callable[[], Any], message: str
) -> None:
    write(make(), folder / "model.onnx")

    assert message in failure_of(folder)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it is empty: export or copy the model again"),
        (b"PK\3\4 a checkpoint", "it is no ONNX model, or not a whole one (17 bytes)"),
        (small().SerializeToString()[:-9], "it is no ONNX model, or not a whole one ("),
        (b"version https://git-lfs.github.com/spec/v1\noid", "run git lfs pull"),
        (b"\x1c\0\0\0ORTM\0\0\0\0", "of ONNX Runtime's own format, which it takes for such by"),
    ],
)
def test_a_file_that_is_no_model_is_told_apart(folder: Path, content: bytes, message: str) -> None:
    (folder / "model.onnx").write_bytes(content)

    assert message in failure_of(folder)


@pytest.mark.parametrize("name", ["batch", "ConstantOfShape"])
def test_a_name_that_is_no_text_is_explained_and_ends_nothing(folder: Path, name: str) -> None:
    (folder / "model.onnx").write_bytes(renamed(name))

    assert "model.onnx: " in failure_of(folder)
    assert "bytes that are not UTF-8" in failure_of(folder)


def test_what_is_not_known_is_told_in_the_runtimes_own_words(tmp_path: Path) -> None:
    assert explain("[ONNXRuntimeError] : 1 : FAIL : new\n", tmp_path / "model.onnx") == (
        "[ONNXRuntimeError] : 1 : FAIL : new"
    )


def test_the_names_of_dimensions_are_those_of_the_graph(folder: Path) -> None:
    write(
        model({"x": (FP32, ["batch", None, 4])}, {"y": (FP32, ["batch", 2])}), folder / "model.onnx"
    )

    session = OrtBackend(threads=1).open(model_config_pb2.ModelConfig(), folder)

    assert session.symbols == {"x": ("batch", "", ""), "y": ("batch", "")}


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (
            "[ONNXRuntimeError] : 11 : EP_FAIL : TensorRT EP could not deserialize engine from "
            "cache: /m/d/1/model.plan",
            "TensorRT does not take the engine /m/d/1/model.plan: it is for another GPU or release "
            "of TensorRT: export it here again, or delete it if it is of trt_engine_cache_path",
        ),
        (
            "[ONNXRuntimeError] : 11 : EP_FAIL : TensorRT EP can't find engine cache: /m/model.plan"
            ". Please make sure engine cache is in the same directory or sub-directory of context "
            "model.",
            "its engine /m/model.plan does not exist: copy it beside the model",
        ),
    ],
)
def test_an_engine_that_tensorrt_does_not_take_is_explained(
    tmp_path: Path, error: str, told: str
) -> None:
    # As its provider words it; there is none here to say it.
    assert explain(error, tmp_path / "model.onnx") == told
