"""Where a configuration says something, and what is wrong with it there.

A fault names a field by its path, such as `input[0].dims`; the source turns the path into a
line, so that a message reads `model_repository/m/config.pbtxt:7: …`.
"""

import re
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, TypeAlias

from serving.errors import LoadFailed

_Tokens: TypeAlias = deque[tuple[str, int]]

_TOKEN: Final = re.compile(
    r"""
    (?P<newline>\n)
  | \#[^\n]*                                          # a comment
  | (?P<token>
        "(?:\\.|[^"\\\n])*" | '(?:\\.|[^'\\\n])*'     # a string
      | [{}<>\[\]:;,]
      | [^\s{}<>\[\]:;,"'\#]+                         # a name, a number or a constant
    )
    """,
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class Source:
    """The file, or whatever else, that a configuration was read from; `text` is empty if none."""

    name: str
    text: str = ""

    def at(self, path: str) -> str:
        """The file and line where `path` is said; the bare name if it is not said at all."""
        line = self.line(path)
        return f"{self.name}:{line}" if line else self.name

    def line(self, path: str) -> int:
        """The line that says `path`, or else the nearest message around it; 0 if nothing does."""
        lines = locate(self.text)
        while path:
            line = lines.get(path) or lines.get(_counted(path))
            if line:
                return line
            path = path.rpartition(".")[0]
        return 0


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with the field at `path`, and the cure; path "" means the configuration."""

    path: str
    message: str


def refuse(faults: Iterable[Fault], source: Source) -> None:
    """Raise LoadFailed with one sentence for each fault, as they stand in the text."""
    ordered = sorted(faults, key=lambda fault: source.line(fault.path))
    messages = [f"{source.at(fault.path)}: {fault.message}" for fault in ordered]
    if messages:
        raise LoadFailed("\n".join(messages))


def locate(text: str) -> dict[str, int]:
    """The line on which each field of a valid text begins, by its path.

    Every field is counted, repeated or not: `input[0].name[0]`, `input[0].dims[2]`. An entry of
    a map has its key for a second name: `parameters["execution_mode"]`.
    """
    lines: dict[str, int] = {}
    _fields(deque(_tokens(text)), "", lines)
    return lines


def _counted(path: str) -> str:
    return re.sub(r"(\w)(?=\.|$)", r"\1[0]", path)


def _tokens(text: str) -> Iterator[tuple[str, int]]:
    line = 1
    for match in _TOKEN.finditer(text):
        if match["newline"]:
            line += 1
        elif match["token"]:
            yield match["token"], line


def _fields(tokens: _Tokens, parent: str, lines: dict[str, int]) -> None:
    """Read the fields of one message, up to its closing bracket."""
    seen: Counter[str] = Counter()
    while tokens and tokens[0][0] not in "}>":
        name, line = tokens.popleft()
        if name in ",;":
            continue
        if tokens[0][0] == ":":
            tokens.popleft()
        if name == "key":
            lines[f'{parent[: parent.rfind("[")]}["{tokens[0][0][1:-1]}"]'] = line
        for value_line in _values(tokens, line):
            path = f"{parent}{name}[{seen[name]}]"
            lines[path] = value_line
            seen[name] += 1
            _value(tokens, f"{path}.", lines)


def _values(tokens: _Tokens, line: int) -> Iterator[int]:
    """Stop before each value of a field, once or for each element of a list; give its line."""
    if tokens[0][0] != "[":
        yield line
        return
    tokens.popleft()
    while tokens[0][0] != "]":
        if tokens[0][0] == ",":
            tokens.popleft()
        else:
            yield tokens[0][1]
    tokens.popleft()


def _value(tokens: _Tokens, prefix: str, lines: dict[str, int]) -> None:
    first, _ = tokens.popleft()
    if first in "{<":
        _fields(tokens, prefix, lines)
        tokens.popleft()
    elif first[0] in "\"'":
        while tokens and tokens[0][0][0] in "\"'":
            tokens.popleft()  # adjacent strings are one
