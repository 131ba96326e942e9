"""Which operators a graph has is told by its bytes, of files and of what is in memory."""

import os
from pathlib import Path

from onnx import TensorProto, helper

from serving.config import has_node


def graph(operator: str) -> bytes:
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in ("x", "y")]
    made = helper.make_graph([helper.make_node(operator, ["x"], ["y"])], "g", ends[:1], ends[1:])
    return bytes(helper.make_model(made).SerializeToString())


def test_a_node_is_found_by_its_whole_name() -> None:
    model = graph("LeakyRelu")
    assert has_node(model, "Conv", "LeakyRelu")
    assert not has_node(model, "Relu")
    assert not has_node(model, "Leaky")


def test_a_name_of_the_length_of_a_special_character_is_found() -> None:
    for length in range(1, 128):
        assert has_node(graph("o" * length), "o" * length)


def test_a_file_is_looked_through_again_once_it_is_another(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(graph("Relu"))
    assert has_node(path, "Relu")
    path.write_bytes(graph("Tanh"))
    os.utime(path, (0, 0))
    assert not has_node(path, "Relu")


def test_what_cannot_be_read_has_none(tmp_path: Path) -> None:
    assert not has_node(tmp_path / "none.onnx", "Relu")
    (tmp_path / "empty.onnx").touch()
    assert not has_node(tmp_path / "empty.onnx", "Relu")
