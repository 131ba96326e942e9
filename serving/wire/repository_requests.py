"""What clients ask of the model repository: to load with overrides, to unload with dependents."""

import binascii
from collections.abc import Callable, Mapping
from typing import Any, Final

from serving.errors import InvalidArgument, Unsupported
from serving.types import LoadOverride
from serving.wire import json_text
from serving.wire.fields import fault

_FILE: Final = "file:"


def load_from_json(body: bytes) -> LoadOverride:
    """The overrides in the body of `POST /v2/repository/models/M/load`, which may be empty.

    Raises InvalidArgument.
    """
    return _override(_parameters(body), _text, _decoded)


def unload_from_json(body: bytes) -> bool:
    """Whether the body of `POST /v2/repository/models/M/unload`, which may be empty, asks to unload
    what the model is made of as well. Raises InvalidArgument.
    """
    return _dependents(_parameters(body).get("unload_dependents", False))


def load_from_proto(message: Any) -> LoadOverride:
    """The overrides of a `RepositoryModelLoadRequest`; raises InvalidArgument, Unsupported."""
    refuse_repository_name(message.repository_name)
    return _override(_values(message), _text, _bytes)


def unload_from_proto(message: Any) -> bool:
    """Whether a `RepositoryModelUnloadRequest` asks to unload what the model is made of as well.

    Raises InvalidArgument, Unsupported.
    """
    refuse_repository_name(message.repository_name)
    return _dependents(_values(message).get("unload_dependents", False))


def refuse_repository_name(name: str) -> None:
    """Unsupported if one of several repositories is asked for by name, as Triton has it too."""
    if name:
        raise Unsupported("'repository_name' specification is not supported")


def _parameters(body: bytes) -> Mapping[str, Any]:
    document = json_text.loads(body) if body.strip() else {}
    if type(document) is not dict:
        raise fault("request", "an object", document)
    parameters = document.get("parameters", {})
    if type(parameters) is not dict:
        raise fault("parameters", "an object", parameters)
    return parameters


def _values(message: Any) -> Mapping[str, Any]:
    return {
        name: getattr(value, value.WhichOneof("parameter_choice") or "", None)
        for name, value in message.parameters.items()
    }


def _override(
    given: Mapping[str, Any],
    config: Callable[[str, Any], str],
    content: Callable[[str, Any], bytes],
) -> LoadOverride:
    for name in given:
        if name != "config" and not name.startswith(_FILE):
            raise InvalidArgument(f"unrecognized load parameter '{name}'.")
    return LoadOverride(
        config("config", given["config"]) if "config" in given else None,
        {
            name.removeprefix(_FILE): content(name, value)
            for name, value in given.items()
            if name.startswith(_FILE)
        },
    )


def _text(name: str, value: Any) -> str:
    if type(value) is not str:
        raise _mistyped(name, "string_param")
    return value


def _bytes(name: str, value: Any) -> bytes:
    if type(value) is not bytes:
        raise _mistyped(name, "bytes_param")
    return value


def _decoded(name: str, value: Any) -> bytes:
    """What base64 stands for, in lines as many programs write it, and without its padding too."""
    text = "".join(_text(name, value).split())
    padding = "=" * (-len(text) % 4)
    try:
        return binascii.a2b_base64(text + padding, strict_mode=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidArgument(f"load parameter '{name}': not base64: {error}") from None


def _mistyped(name: str, expected: str) -> InvalidArgument:
    return InvalidArgument(f"invalid value type for load parameter '{name}', expected {expected}.")


def _dependents(value: Any) -> bool:
    if type(value) is not bool:
        raise InvalidArgument(
            "invalid value type for 'unload_dependents' parameter, expected bool_param."
        )
    return value
