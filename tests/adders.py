"""Models whose answers tell the file that they were opened from: each adds a number of its own."""

import json
import os
import shutil
from pathlib import Path
from typing import Any, Final

from onnx import TensorProto, helper

_CONFIG: Final = """\
backend: "onnxruntime"
max_batch_size: 4
input { name: "x" data_type: TYPE_FP32 dims: [ 1 ] }
output { name: "y" data_type: TYPE_FP32 dims: [ 1 ] }
default_model_filename: "model.onnx"
"""
BROKEN: Final = b"no graph"


def graph(number: int) -> bytes:
    """A model file: FP32 `x` of shape [rows, 1] and `y` = `x` + `number`."""
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", 1]) for name in ("x", "y")
    ]
    made = helper.make_graph(
        [helper.make_node("Add", ["x", "number"], ["y"])],
        "adder",
        ends[:1],
        ends[1:],
        [helper.make_tensor("number", TensorProto.FLOAT, [1], [float(number)])],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    content: bytes = model.SerializeToString()
    return content


def add(repository: Path, name: str, *versions: int, config: str = "") -> Path:
    """Add a model whose versions each add their own number; gives its folder."""
    folder = repository / name
    folder.mkdir(parents=True, exist_ok=True)
    configure(folder, config)
    for version in versions:
        publish(folder, version, version)
    return folder


def chain(repository: Path, name: str, *parts: str) -> Path:
    """Add an ensemble that asks `parts` one after the other; gives its folder."""
    tensors = ["x", *(f"t{index}" for index in range(1, len(parts))), "y"]
    steps = "".join(
        f'  step {{ model_name: "{part}" model_version: -1\n'
        f'    input_map {{ key: "x" value: "{tensors[index]}" }}\n'
        f'    output_map {{ key: "y" value: "{tensors[index + 1]}" }} }}\n'
        for index, part in enumerate(parts)
    )
    folder = repository / name
    (folder / "1").mkdir(parents=True)
    tensors_of = _CONFIG.partition("\n")[2].partition("default_model_filename")[0]
    text = f'platform: "ensemble"\n{tensors_of}ensemble_scheduling {{\n{steps}}}\n'
    (folder / "config.pbtxt").write_text(text)
    return folder


def configure(folder: Path, more: str = "") -> None:
    """Write the model's configuration, with `more` behind everything."""
    (folder / "config.pbtxt").write_text(_CONFIG + more)


def publish(folder: Path, version: int, number: int) -> None:
    """Put a version, new or not, in place at once, as an export does."""
    put(folder, version, graph(number))


def put(folder: Path, version: int, content: bytes) -> None:
    """As `publish`, with any bytes for a model file."""
    scratch = folder / f".{version}"
    scratch.mkdir()
    (scratch / "model.onnx").write_bytes(content)
    target = folder / str(version)
    if target.exists():
        os.replace(scratch / "model.onnx", target / "model.onnx")
        scratch.rmdir()
    else:
        scratch.rename(target)


def remove(folder: Path, version: int) -> None:
    """Take a version away at once."""
    scratch = folder / f".{version}"
    (folder / str(version)).rename(scratch)
    shutil.rmtree(scratch)


def config_json(**changes: Any) -> str:
    """The configuration as the parameter `config` of a load holds it."""
    tensors = {
        field: [{"name": name, "data_type": "TYPE_FP32", "dims": [1]}]
        for field, name in (("input", "x"), ("output", "y"))
    }
    return json.dumps(
        {"backend": "onnxruntime", "max_batch_size": 4, "default_model_filename": "model.onnx"}
        | tensors
        | changes
    )
