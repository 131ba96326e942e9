"""The logging extension's documents: settings by name, as JSON and as protobuf messages."""

from collections.abc import Mapping
from typing import Any

from tritonclient.grpc import service_pb2

from serving.errors import InvalidArgument
from serving.logs import Value
from serving.wire import json_text
from serving.wire.fields import fault


def from_json(body: bytes) -> dict[str, Value]:
    """The settings in the body of `POST /v2/logging`; raises InvalidArgument."""
    document = json_text.loads(body)
    if type(document) is not dict:
        raise fault("request", "a JSON object", document)
    for name, value in document.items():
        if type(value) not in (bool, int, str):
            raise fault(name, "a boolean, an integer or a string", value)
    return document


def to_json(settings: Mapping[str, Value]) -> bytes:
    """The answer of `/v2/logging`."""
    return json_text.dumps(dict(settings))


def from_proto(message: Any) -> dict[str, Value]:
    """The settings in a `LogSettingsRequest`; raises InvalidArgument."""
    settings: dict[str, Value] = {}
    for name, setting in message.settings.items():
        choice = setting.WhichOneof("parameter_choice")
        if choice is None:
            raise InvalidArgument(f"{name}: expected a value, got none")
        settings[name] = getattr(setting, choice)
    return settings


def to_proto(settings: Mapping[str, Value]) -> Any:
    """The `LogSettingsResponse`."""
    message = service_pb2.LogSettingsResponse()
    for name, value in settings.items():
        match value:
            case bool():
                message.settings[name].bool_param = value
            case int():
                message.settings[name].uint32_param = value
            case str():
                message.settings[name].string_param = value
    return message
