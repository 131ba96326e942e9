"""What a configuration may ask of a model, as clients of a real server see it."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from tritonclient.utils import InferenceServerException

from tests import ragged_models
from tests.e2e.clients import CLIENTS, Client, connect
from tests.e2e.server import Server, penstock_server
from tests.serving import graphs

OPTIONAL = """\
backend: "onnxruntime"
input [
  { name: "x" data_type: TYPE_FP32 dims: 2 },
  { name: "bias" data_type: TYPE_FP32 dims: 2 optional: true }
]
output { name: "y" data_type: TYPE_FP32 dims: 2 }
"""
SHARING = """\
backend: "onnxruntime"
instance_group [
  { name: "busy" count: 3 kind: KIND_CPU },
  { name: "idle" count: 2 kind: KIND_CPU passive: true }
]
optimization { graph { level: 1 } }
parameters { key: "share_session_between_instances" value { string_value: "true" } }
parameters { key: "memory.enable_memory_arena_shrinkage" value { string_value: "cpu:0" } }
parameters { key: "intra_op_thread_count" value { string_value: "1" } }
parameters { key: "execution_mode" value { string_value: "1" } }
"""

BATCHING = "dynamic_batching { max_queue_delay_microseconds: 20000 }"


def adder() -> Any:
    """y = x + bias, where bias is [10, 20] unless a request gives another."""
    pair = [2]
    bias = numpy_helper.from_array(np.array([10, 20], np.float32), "bias")
    inputs = [helper.make_tensor_value_info(n, TensorProto.FLOAT, pair) for n in ("x", "bias")]
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, pair)
    graph = helper.make_graph(
        [helper.make_node("Add", ["x", "bias"], ["y"])], "g", inputs, [y], [bias]
    )
    return helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", graphs.OPSET)],
        ir_version=graphs.IR_VERSION,
    )


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    repository = tmp_path_factory.mktemp("repository")
    for name, config in (("optional", OPTIONAL), ("sharing", SHARING)):
        graphs.write(adder(), repository / name / "1" / "model.onnx")
        (repository / name / "config.pbtxt").write_text(config)
    graphs.write(ragged_models.summer(), repository / "ragged" / "1" / "model.onnx")
    text = 'backend: "onnxruntime" max_batch_size: 8\n' + ragged_models.WHOLE + BATCHING
    (repository / "ragged" / "config.pbtxt").write_text(text)
    with penstock_server(repository=repository) as running:
        yield running


@pytest.fixture(params=CLIENTS)
async def client(request: pytest.FixtureRequest, server: Server) -> AsyncIterator[Client]:
    async with connect(request.param, server) as connected:
        yield connected


def floats(*numbers: float) -> Any:
    return np.array(numbers, np.float32)


async def test_an_optional_input_that_is_left_out_is_the_graphs_default(client: Client) -> None:
    answer = await client.infer("optional", {"x": floats(1, 2)})
    assert answer.as_numpy("y").tolist() == [11, 22]


async def test_an_optional_input_that_is_given_is_taken(client: Client) -> None:
    answer = await client.infer("optional", {"x": floats(1, 2), "bias": floats(3, 4)})
    assert answer.as_numpy("y").tolist() == [4, 6]


async def test_a_required_input_is_missed_though_an_optional_one_is_there(client: Client) -> None:
    with pytest.raises(InferenceServerException, match=r"missing required input\(s\) \['x'\]"):
        await client.infer("optional", {"bias": floats(3, 4)})


async def test_an_input_of_the_graph_that_is_not_in_the_configuration_is_no_input(
    client: Client,
) -> None:
    with pytest.raises(InferenceServerException, match="unexpected inference input 'bias'"):
        await client.infer("sharing", {"x": floats(1, 2), "bias": floats(3, 4)})


async def test_what_was_asked_of_the_model_is_in_its_configuration(client: Client) -> None:
    answer = await client.call("get_model_config", "sharing")
    config = answer["config"] if client.is_grpc else answer
    groups = [(group["name"], group["count"]) for group in config["instance_group"]]
    assert groups == [("busy", 3), ("idle", 2)]
    assert config["optimization"]["graph"]["level"] == 1
    parameter = config["parameters"]["memory.enable_memory_arena_shrinkage"]
    assert parameter["string_value"] == "cpu:0"


async def test_instances_that_share_a_session_answer_beside_each_other(server: Server) -> None:
    async with connect("grpc.aio", server) as client:
        answers = await asyncio.gather(
            *(client.infer("sharing", {"x": floats(number, 0)}) for number in range(60))
        )
    assert [answer.as_numpy("y")[0] for answer in answers] == [10.0 + n for n in range(60)]


@pytest.mark.parametrize("protocol", ["http.aio", "grpc.aio"])
async def test_requests_of_different_sizes_share_batches(server: Server, protocol: str) -> None:
    sizes = [1, 5, 2, 9, 3, 1, 7, 4] * 4
    async with connect(protocol, server) as client:
        answers = await asyncio.gather(
            *(client.infer("ragged", {"x": np.ones((1, size), np.float32)}) for size in sizes)
        )
        statistics = await client.call("get_inference_statistics", "ragged")
    assert [answer.as_numpy("sum").tolist() for answer in answers] == [[[size]] for size in sizes]
    assert [answer.as_numpy("double").shape for answer in answers] == [(1, s) for s in sizes]
    assert statistics["model_stats"][0]["execution_count"] < len(sizes)
