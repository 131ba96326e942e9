"""Metadata, configuration, statistics, index and errors, over both protocols."""

import json
from typing import Any

import pytest
from google.protobuf import text_format
from google.protobuf.json_format import MessageToDict
from tritonclient.grpc import model_config_pb2

from serving.dtypes import Datatype
from serving.errors import InvalidArgument
from serving.statistics import VersionStatistics
from serving.types import (
    IndexEntry,
    ModelMetadata,
    ModelState,
    ServerMetadata,
    TensorSpec,
    Timing,
)
from serving.wire import proto_documents, rest_documents

SERVER = ServerMetadata("penstock", "1.0", ("binary_tensor_data", "statistics"))
MODEL = ModelMetadata(
    name="m",
    version="2",
    versions=("1", "2"),
    platform="onnxruntime_onnx",
    max_batch_size=8,
    inputs=(TensorSpec("x", Datatype.UINT8, (-1, 28, 28)),),
    outputs=(TensorSpec("y", Datatype.BYTES, (-1, 10)),),
)
INDEX = [
    IndexEntry("a", "1", ModelState.READY),
    IndexEntry("b", "2", ModelState.UNAVAILABLE, "unloaded"),
    IndexEntry("c"),
]


def as_dict(message: Any) -> Any:
    return MessageToDict(message, preserving_proto_field_name=True)


def test_server_metadata_is_the_same_over_both_protocols() -> None:
    document = json.loads(rest_documents.server_metadata(SERVER))
    assert document == as_dict(proto_documents.server_metadata(SERVER))
    assert document == {
        "name": "penstock",
        "version": "1.0",
        "extensions": ["binary_tensor_data", "statistics"],
    }


def test_model_metadata_has_the_batch_as_a_variable_dimension() -> None:
    document = json.loads(rest_documents.model_metadata(MODEL))
    assert document == {
        "name": "m",
        "versions": ["1", "2"],
        "platform": "onnxruntime_onnx",
        "inputs": [{"name": "x", "datatype": "UINT8", "shape": [-1, 28, 28]}],
        "outputs": [{"name": "y", "datatype": "BYTES", "shape": [-1, 10]}],
    }
    message = proto_documents.model_metadata(MODEL)
    assert list(message.inputs[0].shape) == [-1, 28, 28]
    assert message.outputs[0].datatype == "BYTES"
    assert list(message.versions) == ["1", "2"]


CONFIG = """
name: "m" platform: "onnxruntime_onnx" max_batch_size: 8
version_policy { specific { versions: 1 versions: 3 } }
input { name: "x" data_type: TYPE_UINT8 dims: [ 28, -1 ] reshape { shape: [ 784 ] } }
dynamic_batching {
  preferred_batch_size: [ 4, 8 ]
  max_queue_delay_microseconds: 500
  priority_levels: 2
  priority_queue_policy { key: 1 value { default_timeout_microseconds: 7 } }
}
model_warmup { name: "w" inputs { key: "x" value { dims: [ 28, 28 ] zero_data: true } } }
parameters { key: "k" value { string_value: "64" } }
"""


def test_a_configuration_has_its_64_bit_integers_as_numbers() -> None:
    config = text_format.Parse(CONFIG, model_config_pb2.ModelConfig())
    document = json.loads(rest_documents.model_config(config))
    assert document["max_batch_size"] == 8
    assert document["version_policy"] == {"specific": {"versions": [1, 3]}}
    assert document["input"][0]["dims"] == [28, -1]
    assert document["input"][0]["reshape"] == {"shape": [784]}
    batching = document["dynamic_batching"]
    assert batching["max_queue_delay_microseconds"] == 500
    assert batching["priority_levels"] == 2
    assert batching["priority_queue_policy"]["1"]["default_timeout_microseconds"] == 7
    assert document["model_warmup"][0]["inputs"]["x"]["dims"] == [28, 28]
    assert document["parameters"] == {"k": {"string_value": "64"}}
    assert proto_documents.model_config(config).config == config


def test_an_ensemble_step_has_its_version_as_a_number() -> None:
    config = model_config_pb2.ModelConfig(name="e")
    config.ensemble_scheduling.step.add(model_name="m", model_version=-1)
    document = json.loads(rest_documents.model_config(config))
    assert document["ensemble_scheduling"]["step"][0]["model_version"] == -1


def test_a_configuration_shows_fields_at_their_defaults() -> None:
    document = json.loads(rest_documents.model_config(model_config_pb2.ModelConfig(name="m")))
    assert document["max_batch_size"] == 0
    assert document["instance_group"] == []
    assert document["parameters"] == {}
    assert "dynamic_batching" not in document


def test_statistics_are_unsigned_integers_over_both_protocols() -> None:
    version = VersionStatistics("m", "1")
    timing = Timing(queue=5, compute_input=1, compute_infer=2, compute_output=3, batch_rows=4)
    version.record_execution(4, timing)
    version.record_success(3, 11, timing)
    version.record_success(1, 12, timing)

    (document,) = json.loads(rest_documents.statistics([version]))["model_stats"]
    assert document["inference_count"] == 4
    assert document["execution_count"] == 1
    assert document["last_inference"] > 1_600_000_000_000
    assert document["inference_stats"]["success"] == {"count": 2, "ns": 23}
    assert document["inference_stats"]["queue"] == {"count": 2, "ns": 10}
    assert document["inference_stats"]["cache_hit"] == {"count": 0, "ns": 0}
    assert document["batch_stats"] == [
        {
            "batch_size": 4,
            "compute_input": {"count": 1, "ns": 1},
            "compute_infer": {"count": 1, "ns": 2},
            "compute_output": {"count": 1, "ns": 3},
        }
    ]
    assert document["response_stats"] == {}
    assert document["memory_usage"] == []

    (message,) = proto_documents.statistics([version]).model_stats
    assert message.name == "m"
    assert message.last_inference == document["last_inference"]
    assert message.inference_stats.success.ns == 23
    assert message.inference_stats.compute_output.count == 2
    assert message.batch_stats[0].batch_size == 4
    assert message.batch_stats[0].compute_infer.ns == 2


def test_the_index_names_a_model_never_loaded_and_nothing_else_of_it() -> None:
    document = json.loads(rest_documents.repository_index(INDEX))
    assert document == [
        {"name": "a", "version": "1", "state": "READY"},
        {"name": "b", "version": "2", "state": "UNAVAILABLE", "reason": "unloaded"},
        {"name": "c"},
    ]
    assert as_dict(proto_documents.repository_index(INDEX)) == {"models": document}


@pytest.mark.parametrize(
    ("body", "ready"),
    [(b"", False), (b"{}", False), (b'{"ready":true}', True), (b'{"ready":false}', False)],
)
def test_an_index_request_may_ask_for_ready_models_only(body: bytes, ready: bool) -> None:
    assert rest_documents.index_request(body) is ready


@pytest.mark.parametrize("body", [b"[]", b'{"ready":1}', b"{"])
def test_a_malformed_index_request_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidArgument):
        rest_documents.index_request(body)


@pytest.mark.parametrize("message", ["plain", 'a "quoted" ü\n', "half a pair \ud800"])
def test_an_error_is_json_whatever_its_text(message: str) -> None:
    assert json.loads(rest_documents.error(message)) == {"error": message.replace("\ud800", "?")}
