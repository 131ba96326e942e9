"""The trace extension's documents: settings by name, as JSON and as protobuf messages."""

from typing import Any

from tritonclient.grpc import service_pb2

from serving.errors import InvalidArgument
from serving.tracing.settings import Changes, Document
from serving.wire import json_text
from serving.wire.fields import fault


def from_json(body: bytes) -> Changes:
    """The settings in the body of `POST …/trace/setting`; raises InvalidArgument."""
    document = json_text.loads(body)
    if type(document) is not dict:
        raise fault("request", "a JSON object", document)
    for name, value in document.items():
        texts = value if type(value) is list else [value]
        if value is not None and not all(type(text) is str for text in texts):
            raise fault(name, "a string, a list of strings or null", value)
    changes: Changes = document
    return changes


def to_json(settings: Document) -> bytes:
    """The answer of `…/trace/setting`."""
    return json_text.dumps(settings)


def from_proto(message: Any) -> Changes:
    """The settings in a `TraceSettingRequest`; raises InvalidArgument."""
    return {name: _value(name, list(given.value)) for name, given in message.settings.items()}


def to_proto(settings: Document) -> Any:
    """The `TraceSettingResponse`."""
    message = service_pb2.TraceSettingResponse()
    for name, value in settings.items():
        message.settings[name].value.extend([value] if isinstance(value, str) else value)
    return message


def _value(name: str, values: list[str]) -> str | list[str] | None:
    if not values:
        return None
    if name == "trace_level":
        return values
    if len(values) > 1:
        raise InvalidArgument(f"expect only 1 value for '{name}'")
    return values[0]
