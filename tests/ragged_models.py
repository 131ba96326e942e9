"""An ONNX model that takes requests of different sizes in one batch, and its configuration."""

from typing import Any, Final

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from tests.serving import graphs

X: Final = 'input { name: "x" data_type: TYPE_FP32 dims: -1 allow_ragged_batch: true }\n'
SUM: Final = 'output { name: "sum" data_type: TYPE_FP32 dims: 1 }\n'
DOUBLE: Final = 'output { name: "double" data_type: TYPE_FP32 dims: -1 }\n'
EDGES: Final = """\
batch_input {
  kind: BATCH_ACCUMULATED_ELEMENT_COUNT_WITH_ZERO target_name: "edges" data_type: TYPE_INT32
  source_input: "x"
}
"""
SCATTER: Final = """\
batch_output {
  kind: BATCH_SCATTER_WITH_INPUT_SHAPE target_name: "double" source_input: "x"
}
"""
WHOLE: Final = X + SUM + DOUBLE + EDGES + SCATTER
WAIT: Final = (
    "dynamic_batching { max_queue_delay_microseconds: 60000000 preferred_batch_size: 3 }\n"
)


def summer() -> Any:
    """sum: what each request's numbers add up to; double: all numbers, twice as large."""
    nodes = [
        helper.make_node("CumSum", ["x", "zero"], ["running"]),
        helper.make_node("Concat", ["nothing", "running"], ["sums"], axis=0),
        helper.make_node("Gather", ["sums", "edges"], ["at edges"]),
        helper.make_node("Slice", ["at edges", "one", "end"], ["ends"]),
        helper.make_node("Slice", ["at edges", "start", "minus one"], ["begins"]),
        helper.make_node("Sub", ["ends", "begins"], ["row"]),
        helper.make_node("Unsqueeze", ["row", "one"], ["sum"]),
        helper.make_node("Add", ["x", "x"], ["double"]),
    ]
    constants = [
        numpy_helper.from_array(np.array(0, np.int64), "zero"),
        numpy_helper.from_array(np.zeros(1, np.float32), "nothing"),
        numpy_helper.from_array(np.array([0], np.int64), "start"),
        numpy_helper.from_array(np.array([1], np.int64), "one"),
        numpy_helper.from_array(np.array([-1], np.int64), "minus one"),
        numpy_helper.from_array(np.array([2**62], np.int64), "end"),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, ["elements"]),
            helper.make_tensor_value_info("edges", TensorProto.INT32, ["requests and one"]),
        ],
        [
            helper.make_tensor_value_info("sum", TensorProto.FLOAT, ["requests", 1]),
            helper.make_tensor_value_info("double", TensorProto.FLOAT, ["elements"]),
        ],
        constants,
    )
    opsets = [helper.make_opsetid("", graphs.OPSET)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=graphs.IR_VERSION)
