"""Inputs by which ONNX Runtime would end the process are refused, or answered without that.

Each is sent in a process of its own, as its end would be that of all tests.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import quantize_dynamic

SENT = """
import json, sys
from pathlib import Path
import numpy as np
from serving.config import parse
from serving.engine.backends.ort import OrtBackend
from serving.errors import ServingError

folder, text, shapes = Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
session = OrtBackend(threads=1).open(parse(text, "c"), folder)
for shape in shapes:
    try:
        [y] = session.run({"x": np.ones(shape, np.float32)}, ["y"])
        print(list(y.shape))
    except ServingError as error:
        print(error.code.name, error.message.replace("\\n", " "))
"""


def send(folder: Path, nodes: list[Any], weights: list[Any], x: list[Any], text: str,
         *shapes: list[int]) -> list[str]:  # fmt: skip
    """What a model of these nodes says to inputs of these shapes, line by line."""
    graph = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, x)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [None] * 4)],
        [numpy_helper.from_array(array.astype(np.float32), name) for name, array in weights],
    )
    opsets = [helper.make_opsetid("", 17)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), folder / "model.onnx")
    return sent(folder, text, *shapes)


def said(script: str, *arguments: str) -> list[str]:
    """What a script says in a process of its own, which has to come to its end, line by line."""
    ended = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout.splitlines()


def sent(folder: Path, text: str, *shapes: list[int]) -> list[str]:
    """What the model in this folder says to inputs of these shapes, line by line."""
    return said(SENT, str(folder), text, json.dumps(shapes))


def recurrent(folder: Path, operator: str, gates: int, text: str, *shapes: list[int]) -> list[str]:
    weights = [("w", np.ones((1, gates * 2, 3))), ("r", np.ones((1, gates * 2, 2)))]
    node = helper.make_node(operator, ["x", "w", "r"], ["y"], hidden_size=2)
    return send(folder, [node], weights, ["time", "batch", 3], text, *shapes)


@pytest.mark.parametrize(("operator", "gates"), [("GRU", 3), ("RNN", 1), ("LSTM", 4)])
@pytest.mark.parametrize("shape", [[1, 0, 3], [0, 1, 3], [0, 0, 3]])
def test_a_recurrent_model_is_not_run_on_nothing(
    tmp_path: Path, operator: str, gates: int, shape: list[int]
) -> None:
    told = recurrent(tmp_path, operator, gates, "", shape, [2, 1, 3])

    sizes = ",".join(map(str, shape))
    assert told == [
        f"INVALID_ARGUMENT input 'x' has the shape [{sizes}] and so no elements, of which "
        f"operators of the model make nothing: {operator}",
        "[2, 1, 1, 2]",
    ]


def test_a_quantised_lstm_is_not_run_on_nothing_either(tmp_path: Path) -> None:
    weights = [("w", np.ones((1, 8, 3))), ("r", np.ones((1, 8, 2)))]
    node = helper.make_node("LSTM", ["x", "w", "r"], ["y"], hidden_size=2)
    send(tmp_path, [node], weights, ["time", "batch", 3], "")
    quantised = tmp_path / "quantised"
    quantised.mkdir()
    quantize_dynamic(tmp_path / "model.onnx", quantised / "model.onnx")

    nothing, something = sent(quantised, "", [1, 0, 3], [2, 1, 3])

    assert nothing.startswith("INVALID_ARGUMENT input 'x' has the shape [1,0,3] and so no elements")
    assert something == "[2, 1, 1, 2]"


def test_an_lstm_whose_batch_has_rows_takes_texts_of_no_token(tmp_path: Path) -> None:
    assert recurrent(tmp_path, "LSTM", 4, "max_batch_size: 4", [0, 1, 3]) == ["[0, 1, 1, 2]"]


def test_an_image_that_is_too_small_for_the_pools_is_an_error_and_no_end(tmp_path: Path) -> None:
    weights = [("first", np.ones((16, 3, 3, 3))), ("second", np.ones((16, 16, 1, 1)))]
    nodes = [
        helper.make_node("Conv", ["x", "first"], ["c"], strides=[2, 2]),
        helper.make_node("MaxPool", ["c"], ["p"], kernel_shape=[3, 3], strides=[2, 2]),
        helper.make_node("Conv", ["p", "second"], ["y"]),
    ]

    small, large = send(
        tmp_path, nodes, weights, ["batch", 3, "height", "width"], "", [1, 3, 3, 3], [1, 3, 32, 32]
    )

    assert small.startswith("INTERNAL onnx runtime error: ")
    assert large == "[1, 16, 7, 7]"


def test_what_is_not_unique_is_not_sought_beside_an_empty_axis(tmp_path: Path) -> None:
    node = helper.make_node("Unique", ["x"], ["y"], axis=0)

    nothing, something = send(tmp_path, [node], [], ["rows", "columns"], "", [2, 0], [2, 3])

    assert nothing.endswith("of which operators of the model make nothing: Unique")
    assert something == "[1, 3]"


def test_a_signal_is_not_seen_through_a_window_without_elements(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Constant", [], ["step"], value_int=2),
        helper.make_node("STFT", ["signal", "step", "x"], ["y"]),
    ]
    signal = [("signal", np.ones((1, 16, 1)))]

    nothing, something = send(tmp_path, nodes, signal, ["size"], "", [0], [4])

    assert nothing.endswith("of which operators of the model make nothing: STFT")
    assert something == "[1, 7, 3, 2]"


def test_an_image_that_is_too_small_for_a_pool_of_8_bits_is_an_error_and_no_end(
    tmp_path: Path,
) -> None:
    weights = [("scale", np.array(1))]
    weights += [("first", np.ones((16, 3, 1, 1))), ("second", np.ones((16, 16, 1, 1)))]
    nodes = [
        *in_8_bits("first"),
        *in_8_bits("second"),
        *in_8_bits("x"),
        helper.make_node("Conv", ["x 8", "first 8"], ["c"]),
        *in_8_bits("c"),
        helper.make_node("AveragePool", ["c 8"], ["p"], kernel_shape=[3, 3]),
        *in_8_bits("p"),
        helper.make_node("Conv", ["p 8", "second 8"], ["z"]),
        helper.make_node("QuantizeLinear", ["z", "scale"], ["z as integers"]),
        helper.make_node("DequantizeLinear", ["z as integers", "scale"], ["y"]),
    ]
    dims = ["batch", 3, "height", "width"]

    small, large = send(tmp_path, nodes, weights, dims, "", [1, 3, 2, 2], [1, 3, 8, 8])

    assert small.startswith("INTERNAL onnx runtime error: ")
    assert large == "[1, 16, 6, 6]"


def in_8_bits(name: str) -> list[Any]:
    """What rounds a tensor to as many steps."""
    return [
        helper.make_node("QuantizeLinear", [name, "scale"], [f"{name} as integers"]),
        helper.make_node("DequantizeLinear", [f"{name} as integers", "scale"], [f"{name} 8"]),
    ]


ASKED = """
import asyncio, json, sys
from pathlib import Path
import numpy as np
from serving.dtypes import Datatype
from serving.engine.embedded import EmbeddedEngine
from serving.errors import ServingError
from serving.settings import Settings
from serving.types import InferenceRequest, Tensor

async def main(repository, requests):
    engine = EmbeddedEngine(Settings(model_repository=(repository,)))
    await engine.start()
    for values in requests:
        tensors = [Tensor(name, Datatype.INT64, np.array(value)) for name, value in values.items()]
        try:
            response = await engine.infer(InferenceRequest("m", tuple(tensors)))
            print(response.outputs[0].array.tolist())
        except ServingError as error:
            print(error.code.name, error.message)
    await engine.close()

asyncio.run(main(Path(sys.argv[1]), json.loads(sys.argv[2])))
"""
SMALLEST = -(2**63)


def asked(
    folder: Path, nodes: list[Any], inputs: dict[str, list[Any]], *requests: dict[str, Any]
) -> list[str]:
    """What a server's engine says to these integers, line by line."""
    tensors = [
        helper.make_tensor_value_info(name, TensorProto.INT64, dims)
        for name, dims in inputs.items()
    ]
    one = numpy_helper.from_array(np.ones((1, 16, 1), np.float32), "signal")
    result = [onnx.ValueInfoProto(name="y")]  # of a type that the runtime finds out
    graph = helper.make_graph(nodes, "graph", tensors, result, [one])
    opsets = [helper.make_opsetid("", 17)]
    (folder / "m" / "1").mkdir(parents=True)
    model = helper.make_model(graph, opset_imports=opsets, ir_version=9)
    onnx.save(model, folder / "m" / "1" / "model.onnx")
    return said(ASKED, str(folder), json.dumps(requests))


@pytest.mark.parametrize(("operator", "quotients"), [("Div", [-3, 2]), ("Mod", [-1, 1])])
def test_the_smallest_integer_is_not_divided_by_minus_one(
    tmp_path: Path, operator: str, quotients: list[int]
) -> None:
    told = asked(
        tmp_path,
        [helper.make_node(operator, ["a", "b"], ["y"])],
        {"a": ["rows", 2], "b": ["rows", 2]},
        {"a": [[7, SMALLEST]], "b": [[-2, -1]]},
        {"a": [[7, 7]], "b": [[-2, 3]]},
        {"a": [[9, -9]], "b": [[-1, -1]]},
        {"a": [[SMALLEST, 0]], "b": [[1, 1]]},
    )

    refused, plain, by_minus_one, smallest = told
    assert refused == (
        f"INVALID_ARGUMENT [request id: <id_unknown>] input 'a' for model 'm' must not hold "
        f"{SMALLEST} where input 'b', by which it is divided, holds -1: the quotient is no integer "
        "of as many bits"
    )
    assert json.loads(plain) == [quotients]
    assert json.loads(by_minus_one) == [[-9, 9] if operator == "Div" else [0, 0]]
    assert json.loads(smallest) == [[SMALLEST if operator == "Div" else 0, 0]]


def test_nor_is_it_where_the_graph_has_the_divisor_from_elsewhere(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Neg", ["b"], ["divisor"]),
        helper.make_node("Div", ["a", "divisor"], ["y"]),
    ]

    refused, plain = asked(
        tmp_path,
        nodes,
        {"a": ["rows", 1], "b": ["rows", 1]},
        {"a": [[SMALLEST]], "b": [[1]]},
        {"a": [[9]], "b": [[1]]},
    )

    assert f"input 'a' for model 'm' must not hold {SMALLEST}, which the model divides" in refused
    assert plain == "[[-9]]"


def test_frames_of_a_signal_have_a_length(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Constant", [], ["step"], value_int=2),
        helper.make_node("STFT", ["signal", "step", "", "length"], ["spectrum"]),
        helper.make_node("Shape", ["spectrum"], ["y"]),
    ]

    told = asked(tmp_path, nodes, {"length": []}, {"length": [0]}, {"length": [4]})

    assert told == [
        "INVALID_ARGUMENT [request id: <id_unknown>] input 'length' for model 'm' must be above 0, "
        "as it is the length of a frame; got 0",
        "[1, 7, 3, 2]",
    ]
