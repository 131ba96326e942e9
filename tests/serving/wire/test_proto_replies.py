"""What servers reply beside inference: written by ours, read again as it was."""

import pytest
from tritonclient.grpc import model_config_pb2, service_pb2

from serving.dtypes import Datatype
from serving.statistics import VersionStatistics
from serving.types import (
    IndexEntry,
    ModelMetadata,
    ModelState,
    ServerMetadata,
    TensorSpec,
    Timing,
)
from serving.wire import proto_documents, proto_replies

CONFIG = model_config_pb2.ModelConfig(
    name="m",
    max_batch_size=4,
    input=[
        model_config_pb2.ModelInput(name="x", format=model_config_pb2.ModelInput.FORMAT_NCHW),
        model_config_pb2.ModelInput(name="o", optional=True),
    ],
)
METADATA = ModelMetadata(
    name="m",
    version="2",
    versions=("1", "2"),
    platform="onnxruntime_onnx",
    max_batch_size=4,
    inputs=(
        TensorSpec("x", Datatype.UINT8, (-1, 3, 8, 8)),
        TensorSpec("o", Datatype.BYTES, (-1, 1), optional=True),
    ),
    outputs=(TensorSpec("y", Datatype.FP32, (-1, 10)),),
    formats={"x": "FORMAT_NCHW"},
)


def counted(version: str, rows: int) -> VersionStatistics:
    record = VersionStatistics("m", version)
    timing = Timing(10, 20, 30, 40, rows)
    record.record_success(rows, 100, timing)
    record.record_execution(rows, timing)
    record.response(0).succeeded(5, 6)
    return record


def test_a_model_is_described_as_it_was() -> None:
    message = proto_documents.model_metadata(METADATA)
    assert proto_replies.model_metadata(message, CONFIG, "2") == METADATA


def test_a_server_is_described_as_it_was() -> None:
    said = ServerMetadata("triton", "2.51.0", ("statistics", "trace"))
    assert proto_replies.server_metadata(proto_documents.server_metadata(said)) == said


@pytest.mark.parametrize("state", [None, *ModelState])
def test_an_index_is_read_as_it_was(state: ModelState | None) -> None:
    entries = [IndexEntry("m", "1", state, "why"), IndexEntry("n")]
    assert proto_replies.repository_index(proto_documents.repository_index(entries)) == entries


def test_a_state_that_is_new_is_unknown() -> None:
    message = service_pb2.RepositoryIndexResponse()
    message.models.add(name="m", state="SLEEPING")
    [entry] = proto_replies.repository_index(message)
    assert entry.state is ModelState.UNKNOWN


def test_the_counters_of_several_servers_are_added() -> None:
    servers = [[counted("1", 2), counted("2", 3)], [counted("2", 3)], []]
    replies = [proto_documents.statistics(each) for each in servers]
    first, second = proto_replies.statistics(replies)
    assert (first.version, first.inference_count, first.success.count) == ("1", 2, 1)
    assert (second.version, second.inference_count, second.execution_count) == ("2", 6, 2)
    assert (second.success.count, second.success.ns, second.queue.ns) == (2, 200, 20)
    assert second.batches[3].compute_infer.ns == 60
    assert second.responses["0"].success.ns == 22
    assert second.last_inference >= first.last_inference > 0
