"""Samples that a model runs before a real server calls itself ready."""

from pathlib import Path

import httpx
import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.e2e.server import failed_start, penstock_server
from tests.serving import graphs

CONFIG = """\
max_batch_size: 4
model_warmup {
  name: "an index"
  batch_size: 2
  inputs { key: "index" value { data_type: TYPE_INT64 dims: 1 input_data_file: "index.raw" } }
}
"""


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A model that looks up one of four numbers, and fails for any other index."""
    table = numpy_helper.from_array(np.array([5, 6, 7, 8], np.float32), "table")
    index = helper.make_tensor_value_info("index", TensorProto.INT64, [None, 1])
    number = helper.make_tensor_value_info("number", TensorProto.FLOAT, [None, 1])
    node = helper.make_node("Gather", ["table", "index"], ["number"])
    made = helper.make_model(
        helper.make_graph([node], "g", [index], [number], [table]),
        opset_imports=[helper.make_opsetid("", graphs.OPSET)],
        ir_version=graphs.IR_VERSION,
    )
    graphs.write(made, tmp_path / "lookup" / "1" / "model.onnx")
    (tmp_path / "lookup" / "config.pbtxt").write_text(CONFIG)
    (tmp_path / "lookup" / "warmup").mkdir()
    return tmp_path


def put_index(repository: Path, index: int) -> None:
    (repository / "lookup" / "warmup" / "index.raw").write_bytes(index.to_bytes(8, "little"))


def test_a_model_whose_samples_run_is_ready_and_shows_them(repository: Path) -> None:
    put_index(repository, 3)
    with penstock_server(repository=repository) as server:
        config = httpx.get(f"{server.url}/v2/models/lookup/config").json()
    [sample] = config["model_warmup"]
    assert (sample["name"], sample["batch_size"]) == ("an index", 2)
    assert sample["inputs"]["index"]["input_data_file"] == "index.raw"


def test_samples_are_not_counted_as_requests(repository: Path) -> None:
    put_index(repository, 3)
    with penstock_server(repository=repository) as server:
        document = httpx.get(f"{server.url}/v2/models/lookup/stats").json()
    [counted] = document["model_stats"]
    assert (counted["inference_count"], counted["execution_count"]) == (0, 0)
    assert counted["inference_stats"]["success"]["count"] == 0


def test_a_model_with_a_sample_that_fails_does_not_load(repository: Path) -> None:
    put_index(repository, 9)
    log = failed_start(repository=repository)
    assert "config.pbtxt:2: failed to run warmup sample 'an index': onnx runtime error" in log
