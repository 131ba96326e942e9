"""A repository of small models and of ensembles of them, for any server of Triton's kind."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tests.ensembles import ensemble, step

LABELS: Final = ("ant", "bee", "cow", "dog")
CACHED: Final = "response_cache { enable: true }"
BATCHING: Final = 'platform: "ensemble" max_batch_size: 8'
ALONE: Final = 'platform: "ensemble"'

# The size of an axis, or the name of one whose size varies.
Dims = Sequence[int | str]


def tensor(field: str, name: str, dims: str = "4", kind: str = "FP32", more: str = "") -> str:
    """One line of a configuration."""
    return f'{field} {{ name: "{name}" data_type: TYPE_{kind} dims: [{dims}] {more} }}\n'


def tensors(
    dims: str = "4", kind: str = "FP32", outputs: Sequence[str] = ("out",), more: str = ""
) -> str:
    """The input `in` and `outputs`, all alike."""
    lines = [tensor("output", name, dims, kind, more) for name in outputs]
    return tensor("input", "in", dims, kind, more) + "".join(lines)


FORK: Final = (step("scale", "x=in", "y=scaled"), step("plus", "x=in", "y=added"))
CHAIN: Final = (step("scale", "x=in", "y=mid"), step("plus", "x=mid", "y=out"))
ONE: Final = step("scale", "x=in", "y=out")

# What loads, by name; every step's model is among the models of `build`.
ENSEMBLES: Final = {
    "chain": ensemble(*CHAIN, head=BATCHING),
    "fork": ensemble(*FORK, head=BATCHING, tensors=tensors(outputs=("scaled", "added"))),
    "nested": ensemble(
        step("chain", "in=in", "out=mid"), step("scale", "x=mid", "y=out"), head=BATCHING
    ),
    "labelled": ensemble(step("chain_of_one", "in=in", "out=out"), head=BATCHING),
    "chain_of_one": ensemble(ONE, head=BATCHING),
    "flat_over_rows": ensemble(*CHAIN, head=ALONE, tensors=tensors("-1, 4")),
    "flat_over_one": ensemble(*CHAIN, head=ALONE),
    "rows_over_flat": ensemble(step("flat", "x=in", "y=out"), head=BATCHING),
    "rows_over_one": ensemble(step("alone", "x=in", "y=out"), head=BATCHING),
    "rows_through_all": ensemble(
        step("flat", "x=in", "y=a"),
        step("scale", "x=a", "y=b"),
        step("alone", "x=b", "y=c"),
        step("plus", "x=c", "y=out"),
        head=BATCHING,
    ),
    "pinned": ensemble(step("versions", "x=in", "y=out", version=1), head=BATCHING),
    "latest": ensemble(step("versions", "x=in", "y=out"), head=BATCHING),
    "reshaped": ensemble(
        ONE, head=BATCHING, tensors=tensors("2, 2", more="reshape { shape: [4] }")
    ),
    "passing": ensemble(*CHAIN, head=BATCHING, tensors=tensors(outputs=("out", "in"))),
    "failing_step": ensemble(
        step("failing", "x=in", "y=out"), head=ALONE, tensors=tensors("1", "INT64")
    ),
    "words": ensemble(step("text", "x=in", "y=out"), head=BATCHING, tensors=tensors("1", "STRING")),
    "counted": ensemble(
        step("counting", "x=in", "y=mid"), step("counting", "x=mid", "y=out"), head=BATCHING
    ),
    "cached": ensemble(*CHAIN, head=BATCHING, tail=CACHED),
    "over_cached": ensemble(step("remembering", "x=in", "y=out"), head=BATCHING),
}

# What does not load, although every single file is as it should be.
REFUSED: Final = {
    "unknown_model": ensemble(step("nope", "x=in", "y=out"), head=BATCHING),
    "unknown_version": ensemble(step("scale", "x=in", "y=out", version=7), head=BATCHING),
    "too_large": ensemble(ONE, head=BATCHING.replace("8", "16")),
    "wrong_input": ensemble(step("scale", "z=in", "y=out"), head=BATCHING),
    "wrong_output": ensemble(step("scale", "x=in", "z=out"), head=BATCHING),
    "wrong_type": ensemble(ONE, head=BATCHING, tensors=tensors(kind="INT32")),
    "wrong_shape": ensemble(ONE, head=BATCHING, tensors=tensors("3")),
    "wrong_between": ensemble(
        step("scale", "x=in", "y=mid"),
        step("text", "x=mid", "y=out"),
        head=BATCHING,
        tensors=tensor("input", "in") + tensor("output", "out", "1", "STRING"),
    ),
    "on_refused": ensemble(step("wrong_shape", "in=in", "out=out"), head=BATCHING),
    "of_itself": ensemble(step("of_itself", "in=in", "out=out"), head=BATCHING),
    "circle_a": ensemble(step("circle_b", "in=in", "out=out"), head=BATCHING),
    "circle_b": ensemble(step("circle_a", "in=in", "out=out"), head=BATCHING),
}

# Configurations that make no ensemble: Triton says why in its log only.
MISCONFIGURED: Final = {
    "no_steps": ensemble(head=BATCHING),
    "no_scheduling": f"{BATCHING}\n{tensors()}",
    "with_backend": ensemble(*CHAIN, head=f'{BATCHING} backend: "onnxruntime"'),
    "other_platform": ensemble(*CHAIN, head='platform: "onnxruntime_onnx" max_batch_size: 8'),
    "with_instances": ensemble(*CHAIN, head=BATCHING, tail="instance_group { count: 2 }"),
    "with_optimization": ensemble(*CHAIN, head=BATCHING, tail="optimization { }"),
    "with_warmup": ensemble(*CHAIN, head=BATCHING, tail='model_warmup { name: "w" }'),
    "no_model_name": ensemble(step("", "x=in", "y=out"), head=BATCHING),
    "no_input_map": ensemble(step("scale", "", "y=out"), head=BATCHING),
    "no_output_map": ensemble(step("scale", "x=in", ""), head=BATCHING),
    "unused_input": ensemble(*CHAIN, head=BATCHING, tensors=tensors() + tensor("input", "other")),
    "unused_output": ensemble(*CHAIN, head=BATCHING, tensors=tensors(outputs=("out", "other"))),
    "unused_tensor": ensemble(ONE, step("plus", "x=in", "y=mid"), head=BATCHING),
    "written_twice": ensemble(ONE, step("plus", "x=in", "y=out"), head=BATCHING),
    "unwritten": ensemble(
        *CHAIN,
        step("plus", "x=nowhere", "y=other"),
        head=BATCHING,
        tensors=tensors(outputs=("out", "other")),
    ),
    "in_a_circle": ensemble(
        ONE, step("scale", "x=a", "y=b"), step("plus", "x=b", "y=a"), head=BATCHING
    ),
}


def build(repository: Path, ensembles: dict[str, str]) -> Path:
    """Write all models, and these ensembles of them; gives the repository."""
    linear(repository / "scale", labels=LABELS, more="dynamic_batching { }")
    linear(repository / "plus", 1, 1, more="dynamic_batching { }")
    linear(repository / "alone", batch=0)
    linear(repository / "flat", batch=0, dims=("rows", 4))
    linear(repository / "versions", more="version_policy { all { } }")
    linear(repository / "versions", 3, version="2", more="version_policy { all { } }")
    linear(repository / "counting")
    linear(repository / "remembering", more=CACHED)
    identity_of_text(repository / "text")
    failing(repository / "failing")
    for name, text in ensembles.items():
        (repository / name / "1").mkdir(parents=True)
        (repository / name / "config.pbtxt").write_text(text)
    return repository


def linear(
    folder: Path,
    factor: float = 2,
    constant: float = 0,
    *,
    batch: int = 8,
    dims: Dims = (4,),
    version: str = "1",
    labels: Sequence[str] = (),
    more: str = "",
) -> None:
    """FP32 y is x times `factor` plus `constant`."""
    constants = [
        numpy_helper.from_array(np.array(value, np.float32), name)
        for name, value in (("factor", factor), ("constant", constant))
    ]
    nodes = [
        helper.make_node("Mul", ["x", "factor"], ["product"]),
        helper.make_node("Add", ["product", "constant"], ["y"]),
    ]
    if labels:
        folder.mkdir(parents=True)
        (folder / "labels.txt").write_text("\n".join(labels) + "\n")
    _write(folder / version, "FP32", nodes, constants, batch, dims, bool(labels), more)


def identity_of_text(folder: Path) -> None:
    """BYTES y is x."""
    nodes = [helper.make_node("Identity", ["x"], ["y"])]
    _write(folder / "1", "STRING", nodes, [], 8, (1,))


def failing(folder: Path) -> None:
    """INT64 y is element x of a list of two: every other index fails in the runtime."""
    table = numpy_helper.from_array(np.array([10, 20], np.int64), "table")
    _write(
        folder / "1", "INT64", [helper.make_node("Gather", ["table", "x"], ["y"])], [table], 0, (1,)
    )


def _write(
    version: Path,
    kind: str,
    nodes: Sequence[Any],
    constants: Sequence[Any],
    batch: int,
    dims: Dims,
    labelled: bool = False,
    more: str = "",
) -> None:
    element = {"FP32": TensorProto.FLOAT, "STRING": TensorProto.STRING, "INT64": TensorProto.INT64}
    shape = ["batch", *dims] if batch else list(dims)
    x, y = (helper.make_tensor_value_info(name, element[kind], shape) for name in "xy")
    graph = helper.make_graph(nodes, "graph", [x], [y], constants)
    version.mkdir(parents=True)
    # What the older runtime beside the real Triton can read.
    opset = helper.make_opsetid("", 17)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=9), version / "model.onnx")
    known = [dim if isinstance(dim, int) else -1 for dim in dims]
    labels = 'label_filename: "labels.txt"' if labelled else ""
    (version.parent / "config.pbtxt").write_text(
        f'backend: "onnxruntime" max_batch_size: {batch}\n'
        f'input {{ name: "x" data_type: TYPE_{kind} dims: {known} }}\n'
        f'output {{ name: "y" data_type: TYPE_{kind} dims: {known} {labels} }}\n'
        f"instance_group {{ count: 1 kind: KIND_CPU }}\n{more}\n"
    )
