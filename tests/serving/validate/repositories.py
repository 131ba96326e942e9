"""A repository with one model that nothing is wrong with, for tests to break."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import numpy as np
from onnx import helper, numpy_helper

from serving.dtypes import Datatype
from tests.serving.graphs import Dims, model, write

CONFIG: Final = """\
name: "m"
backend: "onnxruntime"
max_batch_size: 8
input {
  name: "image"
  data_type: TYPE_UINT8
  dims: [ 2, 2 ]
}
output {
  name: "scores"
  data_type: TYPE_FP32
  dims: [ 3 ]
  label_filename: "labels.txt"
}
dynamic_batching { }
"""

# What breaks a model: it is given the model's folder.
Break = Callable[[Path], object]


def graph(batch: int | str = "batch", output: Dims | None = None) -> Any:
    """The graph that CONFIG describes; `output` is its output's shape where it is another."""
    return model(
        {"image": (Datatype.UINT8, [batch, 2, 2])},
        {"scores": (Datatype.FP32, [batch, 3] if output is None else output)},
    )


def good(repository: Path, name: str = "m") -> Path:
    """Add the good model; gives its folder."""
    folder = repository / name
    write(graph(), folder / "1/model.onnx")
    (folder / "config.pbtxt").write_text(CONFIG.replace('"m"', f'"{name}"'))
    (folder / "labels.txt").write_text("cat\ndog\nemu\n")
    return folder


def rewrite(old: str, new: str) -> Break:
    """Puts `new` in the place of `old`, which is there once, into the configuration."""

    def apply(folder: Path) -> None:
        text = (folder / "config.pbtxt").read_text()
        assert text.count(old) == 1
        (folder / "config.pbtxt").write_text(text.replace(old, new))

    return apply


def append(text: str) -> Break:
    """Puts `text` at the end of the configuration, where it is line 16."""

    def apply(folder: Path) -> None:
        with (folder / "config.pbtxt").open("a") as file:
            file.write(text)

    return apply


def rename(old: str, new: str) -> Break:
    """Renames what lies in the model's folder."""
    return lambda folder: (folder / old).rename(folder / new)


def content(name: str, data: bytes) -> Break:
    """Puts other bytes into a file of the model's folder."""
    return lambda folder: (folder / name).write_bytes(data)


def onnx_file(make: Callable[[], Any]) -> Break:
    """Serves another graph."""
    return lambda folder: write(make(), folder / "1/model.onnx")


def both(*breaks: Break) -> Break:
    """One after the other."""

    def apply(folder: Path) -> None:
        for one in breaks:
            one(folder)

    return apply


def fixed_inside(fails: bool) -> Any:
    """States a variable batch and works for one row only.

    With more rows it fails, or else gives one row all the same.
    """
    made = graph()
    made.graph.node[-1].output[0] = "all"
    if fails:
        made.graph.initializer.append(numpy_helper.from_array(np.zeros(2, np.float32), "table"))
        nodes = [
            helper.make_node("Gather", ["table", "rows"], ["found"]),
            helper.make_node("Add", ["all", "found"], ["scores"]),
        ]
    else:
        nodes = [helper.make_node("Slice", ["all", "zero", "one"], ["scores"])]
    made.graph.node.extend(nodes)
    return made
