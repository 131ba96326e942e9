"""ONNX models that take sequences, and their configurations."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from onnx import TensorProto, helper

from tests.serving import graphs

FLOAT, DOUBLE = TensorProto.FLOAT, TensorProto.DOUBLE

# The control inputs of `witness`, by their types in the graph.
_CONTROLS: Final = {
    "start": TensorProto.INT32,
    "end": TensorProto.FLOAT,
    "ready": TensorProto.BOOL,
    "id": TensorProto.UINT64,
}
CONTROLS: Final = """\
control_input [
  { name: "start" control { kind: CONTROL_SEQUENCE_START int32_false_true: [ 0, 1 ] } },
  { name: "end" control { kind: CONTROL_SEQUENCE_END fp32_false_true: [ 0, 1 ] } },
  { name: "ready" control { kind: CONTROL_SEQUENCE_READY bool_false_true: [ false, true ] } },
  { name: "id" control { kind: CONTROL_SEQUENCE_CORRID data_type: TYPE_UINT64 } }
]
"""
STATE: Final = """\
state { input_name: "past" output_name: "next" data_type: TYPE_FP32 dims: %s %s }
"""
X: Final = 'input { name: "x" data_type: TYPE_FP32 dims: 1 }\n'


def witness(batches: bool = True) -> Any:
    """y = [x, start, end, ready, id], as the model sees them."""
    inputs = {"x": FLOAT, **_CONTROLS}
    nodes = [helper.make_node("Cast", [name], [f"{name} seen"], to=DOUBLE) for name in inputs]
    seen = [f"{name} seen" for name in inputs]
    nodes.append(helper.make_node("Concat", seen, ["y"], axis=int(batches)))
    batch = ["n"] if batches else []
    return _model(
        nodes,
        [helper.make_tensor_value_info(name, kind, [*batch, 1]) for name, kind in inputs.items()],
        [helper.make_tensor_value_info("y", DOUBLE, [*batch, len(inputs)])],
    )


def witness_config(batching: str = "", size: int = 3, more: str = "") -> str:
    output = 'output { name: "y" data_type: TYPE_FP64 dims: 5 }\n'
    return config(X + output, batching + CONTROLS, size, more)


def adder(batches: bool = True) -> Any:
    """total = x + past, which is also the next state: with no state yet, the sum so far."""
    batch = ["n"] if batches else []
    nodes = [
        helper.make_node("Add", ["x", "past"], ["total"]),
        helper.make_node("Identity", ["total"], ["next"]),
    ]
    return _model(
        nodes,
        [helper.make_tensor_value_info(name, FLOAT, [*batch, 1]) for name in ("x", "past")],
        [helper.make_tensor_value_info(name, FLOAT, [*batch, 1]) for name in ("total", "next")],
    )


def adder_config(batching: str = "", size: int = 3, more: str = "", initial: str = "") -> str:
    output = 'output { name: "total" data_type: TYPE_FP32 dims: 1 }\n'
    return config(X + output, batching + STATE % ("1", initial), size, more)


def memory() -> Any:
    """seen = all of x so far, which is also the next state: it grows from step to step."""
    return _model(
        [
            helper.make_node("Concat", ["past", "x"], ["seen"], axis=1),
            helper.make_node("Identity", ["seen"], ["next"]),
        ],
        [
            helper.make_tensor_value_info("x", FLOAT, ["n", 1]),
            helper.make_tensor_value_info("past", FLOAT, ["n", "length"]),
        ],
        [
            helper.make_tensor_value_info("seen", FLOAT, ["n", "longer"]),
            helper.make_tensor_value_info("next", FLOAT, ["n", "longer"]),
        ],
    )


def memory_config(batching: str = "", size: int = 3) -> str:
    output = 'output { name: "seen" data_type: TYPE_FP32 dims: -1 }\n'
    return config(X + output, batching + STATE % ("-1", ""), size)


def config(tensors: str, batching: str, size: int, more: str = "") -> str:
    return (
        f'backend: "onnxruntime" max_batch_size: {size}\n{tensors}'
        f"sequence_batching {{\n{batching}}}\n{more}\n"
    )


def add(repository: Path, name: str, made: Any, text: str) -> Path:
    """Put a model into a repository; gives its folder."""
    graphs.write(made, repository / name / "1" / "model.onnx")
    (repository / name / "config.pbtxt").write_text(text)
    return repository / name


def _model(nodes: Sequence[Any], inputs: Sequence[Any], outputs: Sequence[Any]) -> Any:
    return helper.make_model(
        helper.make_graph(nodes, "g", inputs, outputs),
        opset_imports=[helper.make_opsetid("", graphs.OPSET)],
        ir_version=graphs.IR_VERSION,
    )
