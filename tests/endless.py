"""A graph that goes round for as long as it is told, or for ever."""

from typing import Final

from onnx import ModelProto, TensorProto, helper

FOR_EVER: Final = 2**62


def looping(least: int = 0) -> ModelProto:
    """Goes round as often as `rounds`, (1,) INT64, says and `least` times more; `done` counts."""
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["go_on"]),
            helper.make_node("Add", ["before", "one"], ["after"]),
        ],
        "round",
        [
            helper.make_tensor_value_info("index", TensorProto.INT64, []),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("before", TensorProto.INT64, [1]),
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("after", TensorProto.INT64, [1]),
        ],
    )
    graph = helper.make_graph(
        [
            helper.make_node("Add", ["rounds", "least"], ["more"]),
            helper.make_node("Squeeze", ["more"], ["count"]),
            helper.make_node("Loop", ["count", "", "zero"], ["done"], body=body),
        ],
        "rounds",
        [helper.make_tensor_value_info("rounds", TensorProto.INT64, [1])],
        [helper.make_tensor_value_info("done", TensorProto.INT64, [1])],
        [
            helper.make_tensor("least", TensorProto.INT64, [1], [least]),
            helper.make_tensor("zero", TensorProto.INT64, [1], [0]),
            helper.make_tensor("one", TensorProto.INT64, [1], [1]),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
