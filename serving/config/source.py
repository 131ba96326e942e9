"""Where a configuration says something, and what is wrong with it there.

A fault names a field by its path, such as `input[0].dims`; the source turns the path into a
line, so that a message reads `model_repository/m/config.pbtxt:7: …`.
"""

import re
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from serving.errors import LoadFailed

Position: TypeAlias = tuple[int, int]  # line and column, both from 1

_Tokens: TypeAlias = deque[tuple[str, Position]]

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
        return self.position(path)[0]

    def position(self, path: str) -> Position:
        """As `line`, with the column; (0, 0) if nothing says it."""
        positions = locate(self.text)
        while path:
            position = positions.get(path) or positions.get(_counted(path))
            if position:
                return position
            path = path.rpartition(".")[0]
        return 0, 0


@dataclass(frozen=True, slots=True)
class Fault:
    """What is wrong with the field at `path`, and the cure; path "" means the configuration."""

    path: str
    message: str


@dataclass(frozen=True, slots=True)
class Located:
    """A fault where it stands in a file; line and column are 0 where nothing says it."""

    file: str
    line: int
    column: int
    message: str

    @property
    def file_and_line(self) -> str:
        """`file:line`, or the bare file."""
        return f"{self.file}:{self.line}" if self.line else self.file


class Refused(LoadFailed):
    """A configuration that cannot be served; the message tells of every one of `faults`."""

    def __init__(self, message: str, faults: Sequence[Located]) -> None:
        super().__init__(message)
        self.faults = tuple(faults)


def refuse(faults: Iterable[Fault], source: Source) -> None:
    """Raise Refused with one sentence for each fault, as they stand in the text."""
    located = [
        Located(source.name, *source.position(fault.path), fault.message) for fault in faults
    ]
    if located:
        located.sort(key=lambda fault: fault.line)
        message = "\n".join(f"{fault.file_and_line}: {fault.message}" for fault in located)
        raise Refused(message, located)


def locate(text: str) -> dict[str, Position]:
    """Where each field of a valid text begins, by its path.

    Every field is counted, repeated or not: `input[0].name[0]`, `input[0].dims[2]`. An entry of
    a map has its key for a second name: `parameters["execution_mode"]`.
    """
    positions: dict[str, Position] = {}
    _fields(deque(tokens_of(text)), "", positions)
    return positions


def _counted(path: str) -> str:
    return re.sub(r"(\w)(?=\.|$)", r"\1[0]", path)


def tokens_of(text: str) -> Iterator[tuple[str, Position]]:
    """Each token of `text` and where it begins, whether the text is valid or not."""
    line, begin = 1, 0
    for match in _TOKEN.finditer(text):
        if match["newline"]:
            line, begin = line + 1, match.end()
        elif match["token"]:
            yield match["token"], (line, match.start() - begin + 1)


def _fields(tokens: _Tokens, parent: str, positions: dict[str, Position]) -> None:
    """Read the fields of one message, up to its closing bracket."""
    seen: Counter[str] = Counter()
    while tokens and tokens[0][0] not in "}>":
        name, position = tokens.popleft()
        if name in ",;":
            continue
        if tokens[0][0] == ":":
            tokens.popleft()
        if name == "key":
            positions[f'{parent[: parent.rfind("[")]}["{tokens[0][0][1:-1]}"]'] = position
        for place in _values(tokens, position):
            path = f"{parent}{name}[{seen[name]}]"
            positions[path] = place
            seen[name] += 1
            _value(tokens, f"{path}.", positions)


def _values(tokens: _Tokens, position: Position) -> Iterator[Position]:
    """Stop before each value of a field, once or for each element of a list; give its place."""
    if tokens[0][0] != "[":
        yield position
        return
    tokens.popleft()
    while tokens[0][0] != "]":
        if tokens[0][0] == ",":
            tokens.popleft()
        else:
            yield tokens[0][1]
    tokens.popleft()


def _value(tokens: _Tokens, prefix: str, positions: dict[str, Position]) -> None:
    first, _ = tokens.popleft()
    if first in "{<":
        _fields(tokens, prefix, positions)
        tokens.popleft()
    elif first[0] in "\"'":
        while tokens and tokens[0][0][0] in "\"'":
            tokens.popleft()  # adjacent strings are one
