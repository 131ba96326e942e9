"""What REST answers beside inference: metadata, configuration, statistics, index and errors."""

from collections.abc import Iterable, Sequence
from typing import Any

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.json_format import MessageToDict

from serving.statistics import DURATIONS, Duration, VersionStatistics
from serving.types import IndexEntry, ModelMetadata, ServerMetadata, TensorSpec
from serving.wire import json_text
from serving.wire.fields import fault

_RESPONSE_DURATIONS = (
    "compute_infer",
    "compute_output",
    "success",
    "fail",
    "empty_response",
    "cancel",
)
_INT64 = (FieldDescriptor.CPPTYPE_INT64, FieldDescriptor.CPPTYPE_UINT64)

# The answers to `GET /v2/health/live` and `GET /v2/health/ready` where it is so.
LIVE = json_text.dumps({"live": True})
READY = json_text.dumps({"ready": True})


def error(message: str) -> bytes:
    """The body of every failure; a text that is not Unicode cannot make it fail."""
    return json_text.dumps({"error": message.encode(errors="replace").decode()})


def model_ready(name: str) -> bytes:
    """The answer to `GET /v2/models/M/ready` where it is so."""
    return json_text.dumps({"name": name, "ready": True})


def server_metadata(metadata: ServerMetadata) -> bytes:
    """The answer to `GET /v2`."""
    return json_text.dumps(
        {
            "name": metadata.name,
            "version": metadata.version,
            "extensions": metadata.extensions,
        }
    )


def model_metadata(metadata: ModelMetadata) -> bytes:
    """The answer to `GET /v2/models/M`."""
    return json_text.dumps(
        {
            "name": metadata.name,
            "versions": metadata.versions,
            "platform": metadata.platform,
            "inputs": list(map(_tensor, metadata.inputs)),
            "outputs": list(map(_tensor, metadata.outputs)),
        }
    )


def model_config(config: Any) -> bytes:
    """The answer to `GET /v2/models/M/config` for an `inference.ModelConfig` message.

    As Triton prints it: the proto's field names, fields at their defaults too, and 64-bit integers
    as numbers, where protobuf's own JSON has strings.
    """
    document = MessageToDict(
        config, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    return json_text.dumps(_with_numbers(document, config.DESCRIPTOR))


def statistics(versions: Iterable[VersionStatistics]) -> bytes:
    """The answer to `GET /v2/models[/M[/versions/N]]/stats`; all integers are unsigned."""
    return json_text.dumps({"model_stats": list(map(_version, versions))})


def repository_index(entries: Sequence[IndexEntry]) -> bytes:
    """The answer to `POST /v2/repository/index`; a model never loaded is a name only."""
    return json_text.dumps(list(map(_index_entry, entries)))


def index_request(body: bytes) -> bool:
    """Whether the body of `POST /v2/repository/index`, which may be empty, asks for ready models.

    Raises InvalidArgument.
    """
    document = json_text.loads(body) if body.strip() else {}
    if type(document) is not dict:
        raise fault("request", "an object", document)
    ready = document.get("ready", False)
    if type(ready) is not bool:
        raise fault("ready", "a boolean", ready)
    return ready


def _tensor(spec: TensorSpec) -> dict[str, Any]:
    return {"name": spec.name, "datatype": spec.datatype.wire, "shape": spec.dims}


def _index_entry(entry: IndexEntry) -> dict[str, str]:
    state = entry.state.value if entry.state else ""
    optional = {"version": entry.version, "state": state, "reason": entry.reason}
    return {"name": entry.name} | {key: value for key, value in optional.items() if value}


def _version(version: VersionStatistics) -> dict[str, Any]:
    return {
        "name": version.model,
        "version": version.version,
        "last_inference": version.last_inference,
        "inference_count": version.inference_count,
        "execution_count": version.execution_count,
        "inference_stats": {name: _duration(getattr(version, name)) for name in DURATIONS},
        "response_stats": {
            place: {name: _duration(getattr(response, name)) for name in _RESPONSE_DURATIONS}
            for place, response in version.responses.items()
        },
        "batch_stats": [
            {
                "batch_size": rows,
                "compute_input": _duration(batch.compute_input),
                "compute_infer": _duration(batch.compute_infer),
                "compute_output": _duration(batch.compute_output),
            }
            for rows, batch in sorted(version.batches.items())
        ],
        "memory_usage": [],
    }


def _duration(duration: Duration) -> dict[str, int]:
    return {"count": duration.count, "ns": duration.ns}


def _with_numbers(document: dict[str, Any], descriptor: Any) -> dict[str, Any]:
    """`document` of a message with that descriptor, its 64-bit integers made numbers again."""
    return {
        name: _with_number(value, descriptor.fields_by_name[name])
        for name, value in document.items()
    }


def _with_number(value: Any, field: Any) -> Any:
    if isinstance(value, list):
        return [_with_number(item, field) for item in value]
    if field.message_type is None:
        return int(value) if field.cpp_type in _INT64 else value
    if field.message_type.GetOptions().map_entry:
        member = field.message_type.fields_by_name["value"]
        return {key: _with_number(item, member) for key, item in value.items()}
    return _with_numbers(value, field.message_type)
