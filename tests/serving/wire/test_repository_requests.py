"""Loads and unloads mean the same over both protocols, and so do their faults."""

import base64
import json
from collections.abc import Mapping
from typing import Any

import pytest
from tritonclient.grpc import service_pb2

from serving.errors import InvalidArgument, Unsupported
from serving.types import LoadOverride
from serving.wire import repository_requests as wire

CONTENT = bytes(range(256))


def body(parameters: Mapping[str, Any]) -> bytes:
    return json.dumps({"parameters": parameters}).encode()


def fill(message: Any, parameters: Mapping[str, Any]) -> Any:
    for name, value in parameters.items():
        kind = {bool: "bool", int: "int64", str: "string", bytes: "bytes"}[type(value)]
        setattr(message.parameters[name], f"{kind}_param", value)
    return message


def load_message(parameters: Mapping[str, Any]) -> Any:
    return fill(service_pb2.RepositoryModelLoadRequest(model_name="m"), parameters)


def unload_message(parameters: Mapping[str, Any]) -> Any:
    return fill(service_pb2.RepositoryModelUnloadRequest(model_name="m"), parameters)


@pytest.mark.parametrize("text", [b"", b" \n", b"{}", b'{"parameters": {}}', b'{"other": 1}'])
def test_a_load_needs_no_parameters(text: bytes) -> None:
    assert wire.load_from_json(text) == LoadOverride()
    assert wire.load_from_proto(load_message({})) == LoadOverride()
    assert wire.unload_from_json(text) is False
    assert wire.unload_from_proto(unload_message({})) is False


def test_a_load_may_bring_a_configuration_and_files() -> None:
    expected = LoadOverride("{}", {"1/model.onnx": CONTENT, "labels.txt": b""})
    text = base64.b64encode(CONTENT).decode()
    encoded = {"config": "{}", "file:1/model.onnx": text, "file:labels.txt": ""}
    assert wire.load_from_json(body(encoded)) == expected
    raw = {"config": "{}", "file:1/model.onnx": CONTENT, "file:labels.txt": b""}
    assert wire.load_from_proto(load_message(raw)) == expected


FAULTS: dict[str, tuple[Mapping[str, Any], str]] = {
    "another parameter": ({"foo": "bar"}, "unrecognized load parameter 'foo'."),
    "almost a file": ({"file": "bar"}, "unrecognized load parameter 'file'."),
    "a config of another type": (
        {"config": 5},
        "invalid value type for load parameter 'config', expected string_param.",
    ),
    "a flag for a file": (
        {"file:1/model.onnx": True},
        "invalid value type for load parameter 'file:1/model.onnx', expected ",
    ),
}


@pytest.mark.parametrize(("parameters", "message"), FAULTS.values(), ids=FAULTS.keys())
def test_a_faulty_load_is_refused_in_the_same_words(
    parameters: Mapping[str, Any], message: str
) -> None:
    with pytest.raises(InvalidArgument) as over_rest:
        wire.load_from_json(body(parameters))
    assert over_rest.value.message.startswith(message)
    with pytest.raises(InvalidArgument) as over_grpc:
        wire.load_from_proto(load_message(parameters))
    assert over_grpc.value.message.startswith(message)


@pytest.mark.parametrize("text", ["YWJj\nZA==\n", "YWJj\r\nZA==\r\n", " YWJjZA== ", "YWJjZA"])
def test_base64_may_be_in_lines_and_without_its_padding(text: str) -> None:
    given = wire.load_from_json(body({"config": "{}", "file:1/m": text}))
    assert given.files == {"1/m": b"abcd"}


@pytest.mark.parametrize("text", ["a", "!!!!", "Y=Q=", "YQ==YQ==", "YQ==\0", "ä"])
def test_what_is_not_base64_is_refused(text: str) -> None:
    with pytest.raises(InvalidArgument, match=r"load parameter 'file:1/m': not base64"):
        wire.load_from_json(body({"config": "{}", "file:1/m": text}))


@pytest.mark.parametrize("text", [b"junk", b"[]", b'{"parameters": []}', b'{"parameters": null}'])
def test_a_body_that_is_no_request_is_refused(text: bytes) -> None:
    for decode in (wire.load_from_json, wire.unload_from_json):
        with pytest.raises(InvalidArgument):
            decode(text)


def test_an_unload_may_take_the_parts_along() -> None:
    for flag in (True, False):
        given = {"unload_dependents": flag, "of no meaning": "here"}
        assert wire.unload_from_json(body(given)) is flag
        assert wire.unload_from_proto(unload_message(given)) is flag


def test_whether_parts_go_along_is_a_flag() -> None:
    message = "invalid value type for 'unload_dependents' parameter, expected bool_param."
    given = {"unload_dependents": "yes"}
    with pytest.raises(InvalidArgument, match=message):
        wire.unload_from_json(body(given))
    with pytest.raises(InvalidArgument, match=message):
        wire.unload_from_proto(unload_message(given))


def test_a_single_repository_cannot_be_asked_for() -> None:
    load, unload = load_message({}), unload_message({})
    load.repository_name = unload.repository_name = "models"
    with pytest.raises(Unsupported, match="'repository_name' specification is not supported"):
        wire.load_from_proto(load)
    with pytest.raises(Unsupported, match="'repository_name' specification is not supported"):
        wire.unload_from_proto(unload)
