"""config.pbtxt <-> the `inference.ModelConfig` message."""

import contextlib
import difflib
import re
from collections.abc import Iterable
from typing import Any, Final, TypeAlias

from google.protobuf import json_format, text_format
from tritonclient.grpc import model_config_pb2

from serving import dtypes
from serving.config.source import Located, Position, Refused, tokens_of
from serving.errors import InvalidArgument

# The message `inference.ModelConfig`; its module carries no type information.
Proto: TypeAlias = Any

_POOL: Final = model_config_pb2.DESCRIPTOR.pool
_UNKNOWN_FIELD: Final = re.compile(r'Message type "(?P<type>.+)" has no field named "(?P<name>.+)"')
# What may stand behind a backslash in a string.
_ESCAPE: Final = re.compile(
    r"""\\(?:[abfnrtv\\'"]|[0-3]?[0-7]{1,2}|x[0-9a-fA-F]{1,2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8})"""
)
_UNKNOWN_VALUE: Final = re.compile(r'Enum type "(?P<type>.+)" has no value named (?P<name>.*)\.')


def parse(text: str, source: str) -> Proto:
    """The message that `text` spells; Refused says where `source` is wrong, and the cure."""
    _refuse_surrogates(text, source)
    if text.startswith("\ufeff"):
        raise _refused(source, 1, 1, "begins with a byte order mark; save it as UTF-8 without")
    _refuse_unknown_escapes(text, source)
    try:
        return text_format.Parse(text, model_config_pb2.ModelConfig())
    except text_format.ParseError as error:
        line, column = error.GetLine() or 1, error.GetColumn() or 1
        reason = _explain(_reason(error, text, line, column))
        raise _refused(source, line, column, reason) from None
    except ValueError as error:  # a number that no enum can hold; the parser does not say where
        line, column = _place_of_number(text, str(error))
        raise _refused(source, line, column, str(error)) from None


def _refused(source: str, line: int, column: int, reason: str) -> Refused:
    message = f"{source}:{line}:{column}: {reason}" if line else f"{source}: {reason}"
    return Refused(message, [Located(source, line, column, reason)])


def from_json(text: str, source: str) -> Proto:
    """The message whose JSON `text` is, as Triton's clients send it; Refused if it is none."""
    if not text.lstrip().startswith("{"):  # the parser takes an empty list for an empty object
        raise _refused(source, 0, 0, "not the JSON of a ModelConfig: expected an object")
    try:
        return json_format.Parse(text, model_config_pb2.ModelConfig())
    except (json_format.ParseError, RecursionError) as error:
        raise _refused(source, 0, 0, f"not the JSON of a ModelConfig: {error}") from None


def to_text(proto: Proto) -> str:
    """The text of config.pbtxt for `proto`; `parse` gives an equal message back."""
    text: str = text_format.MessageToString(proto, as_utf8=True, use_short_repeated_primitives=True)
    return text


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """`; did you mean 'x'?` with the nearest of `known`, or the whole list if none is near."""
    known = sorted(known)
    # CPU for KIND_CPU, NCHW for FORMAT_NCHW
    near = [whole for whole in known if name and whole.endswith(f"_{name}")]
    near = near or difflib.get_close_matches(name, known, n=1)
    return f"; did you mean {near[0]!r}?" if near else f"; expected one of {', '.join(known)}"


def _refuse_surrogates(text: str, source: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        line = text.count("\n", 0, error.start) + 1
        column = error.start - text.rfind("\n", 0, error.start)
        raise _refused(source, line, column, "not a character of Unicode text") from None


def _refuse_unknown_escapes(text: str, source: str) -> None:
    """As Triton's parser does; Python's would keep the backslash and say no more than a warning."""
    for token, (line, column) in tokens_of(text):
        if token[0] in "\"'" and "\\" in _ESCAPE.sub("", token):
            reason = f"invalid escape sequence in {token}: write a backslash as \\\\"
            raise _refused(source, line, column, reason)


def _place_of_number(text: str, reason: str) -> Position:
    """Where `text` has the number that `reason` ends with; (0, 0) if nowhere."""
    for token, position in tokens_of(text):
        with contextlib.suppress(ValueError):
            if reason.endswith(f" {int(token, 0)}"):
                return position
    return 0, 0


def _reason(error: text_format.ParseError, text: str, line: int, column: int) -> str:
    """The error's own sentence, without the position and the line's text before it."""
    reason = str(error).removeprefix(f"{line}:{column} : ")
    read = [*text.split("\n"), ""][line - 1]
    return reason.removeprefix(f"'{read}': ").removeprefix("'': ")


def _explain(reason: str) -> str:
    if match := _UNKNOWN_FIELD.match(reason):
        message = _POOL.FindMessageTypeByName(match["type"])
        hint = did_you_mean(match["name"], message.fields_by_name)
        return f"{message.name} has no field {match['name']!r}{hint}"
    if match := _UNKNOWN_VALUE.match(reason):
        enum = _POOL.FindEnumTypeByName(match["type"])
        name = _config_name(match["name"]) or match["name"]
        hint = did_you_mean(name, enum.values_by_name)
        return f"{enum.name} has no value {match['name']!r}{hint}"
    return reason


def _config_name(name: str) -> str | None:
    """config.pbtxt's name of a datatype written as on the wire, such as FP32 or TYPE_BYTES."""
    try:
        return dtypes.from_wire(name.removeprefix("TYPE_")).config
    except InvalidArgument:
        return None
