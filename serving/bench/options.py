"""What the words of the command line mean: times, addresses, lists of loads, shapes."""

import math
import os
import re
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import quote, urlsplit

import click

from serving.bench import slo
from serving.bench.plan import Protocol

T = TypeVar("T")

_TIME: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(us|ms|s|m|h|)")
_UNITS: Final = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "": 1.0}
_MOST_SECONDS: Final = 366 * 86_400.0
_MOST_STEPS: Final = 1000
# What lies outside takes years for one request, or is never sent.
RATES_FROM, RATES_TO = 1e-6, 1e7
_MOST_CONNECTIONS: Final = 65_535  # each has a port of its own
_PORTS: Final = {Protocol.BINARY: 8000, Protocol.JSON: 8000, Protocol.GRPC: 8001}
_HEADER: Final = "--header"
_SCHEMES: Final = ("http", "https", "grpc", "grpcs")


def _kind(read: Callable[[str], T]) -> Callable[[str], T]:
    """A type of click's: what `read` makes of a text, its ValueErrors told as they are."""

    def convert(text: str) -> T:
        try:
            return read(text)
        except ValueError as error:
            raise click.BadParameter(str(error)) from None

    convert.__name__ = read.__name__
    return convert


def seconds(text: str) -> float:
    """`500ms`, `10s`, `2m` or a number of seconds."""
    found = _TIME.fullmatch(text.strip())
    if not found:
        raise ValueError(f"expected a time such as 10s or 500ms, got {text!r}")
    value = float(found[1]) * _UNITS[found[2]]
    if value > _MOST_SECONDS:
        raise ValueError(f"expected a time of a year at most, got {text!r:.50}")
    return value


def positive_seconds(text: str) -> float:
    """A time above 0."""
    value = seconds(text)
    if not value:
        raise ValueError("expected a time above 0")
    return value


def rates(text: str) -> list[float]:
    """`100,200` or a range with both ends, `100:500:100`, of requests per second."""
    found = _numbers(text)
    if not RATES_FROM <= min(found) <= max(found) <= RATES_TO:
        raise ValueError(f"expected rates from {RATES_FROM:g} to {RATES_TO:g}/s, got {text!r}")
    return found


def counts(text: str) -> list[int]:
    """`1,8,32` or a range with both ends, `4:16:4`."""
    found = _numbers(text)
    if any(not value.is_integer() for value in found):
        raise ValueError(f"expected whole numbers, got {text!r}")
    if max(found) > _MOST_CONNECTIONS:
        raise ValueError(f"expected at most {_MOST_CONNECTIONS} connections, got {text!r}")
    return [int(value) for value in found]


def _numbers(text: str) -> list[float]:
    found = [value for part in text.split(",") for value in _range(part, text)]
    if any(value <= 0 for value in found):
        raise ValueError(f"expected numbers above 0, got {text!r}")
    return found


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("infinity, or no number")
    return value


def _range(part: str, text: str) -> list[float]:
    try:
        first, *rest = map(_finite, part.split(":"))
    except ValueError:
        raise ValueError(f"expected numbers such as 100,200 or 100:500:100, got {text!r}") from None
    if not rest:
        return [first]
    last, step = rest[0], rest[1] if len(rest) > 1 else 1.0
    if len(rest) > 2 or step <= 0 or last < first or (last - first) / step > _MOST_STEPS:
        raise ValueError(f"expected START:END:STEP that leads from start to end, got {part!r}")
    return [first + index * step for index in range(int((last - first) / step + 1e-9) + 1)]


def shape(text: str) -> tuple[str, tuple[int, ...]]:
    """`NAME:1,28,28`: an input and its dimensions without the batch; `NAME:` is a scalar."""
    name, colon, dims = text.rpartition(":")
    try:
        sizes = tuple(int(dim) for dim in dims.split(",") if dims)
    except ValueError:
        sizes = (-1,)
    if not colon or any(size < 0 for size in sizes):
        raise ValueError(f"expected NAME:1,28,28, got {text!r}")
    return name, sizes


def header(text: str) -> tuple[str, str]:
    """`Name: value`."""
    name, colon, value = text.partition(":")
    if not colon or not re.fullmatch(r"[\w!#$%&'*+.^`|~-]+", name) or re.search(r"[\r\n]", value):
        raise ValueError(f"expected 'Name: value', got {text!r}")
    if not text.isascii():
        raise ValueError(f"expected 'Name: value' in ASCII, as HTTP and gRPC have it, got {text!r}")
    return name, value.strip()


def command_line(words: Sequence[str]) -> str:
    """What was typed, as a report shows it to others: of headers, which may be keys, the names."""
    told = ["penstock"]
    for before, word in zip(("", *words), words, strict=False):
        flag, equals, text = ("", "", word) if before == _HEADER else word.partition("=")
        is_header = before == _HEADER or (flag == _HEADER and equals)
        told.append(f"{flag}{equals}{text.partition(':')[0]}: ..." if is_header else word)
    return shlex.join(told)


def address(url: str, protocol: Protocol | None) -> tuple[Protocol, str, int, bool, str]:
    """Protocol, host, port, whether TLS, and the prefix of paths, of `[SCHEME://]HOST[:PORT]`.

    Without a protocol the scheme chooses: binary REST for http, and gRPC for grpc.
    """
    parts = urlsplit(url if "://" in url else f"//{url}")
    scheme = parts.scheme or ("grpc" if protocol is Protocol.GRPC else "http")
    if scheme not in _SCHEMES or not parts.hostname:
        raise ValueError(
            f"expected http://HOST:PORT or grpc://HOST:PORT (or https, grpcs), got {url!r}"
        )
    is_grpc = scheme.startswith("grpc")
    chosen = protocol or (Protocol.GRPC if is_grpc else Protocol.BINARY)
    if is_grpc != (chosen is Protocol.GRPC):
        raise ValueError(f"{url} is no address for the protocol {chosen.value}")
    if is_grpc and parts.path.strip("/"):
        raise ValueError(f"gRPC has no paths: expected grpc://HOST:PORT, got {url!r}")
    is_tls = scheme.endswith("s")
    port = parts.port or (443 if is_tls else _PORTS[chosen])
    prefix = quote(parts.path.rstrip("/"), safe="/%")  # of which what is quoted already stays
    return chosen, parts.hostname, port, is_tls, prefix


class _NewFile(click.Path):
    """A file to be written in the end; that it cannot be is told before anything is measured."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        path = Path(os.fsdecode(super().convert(value, param, ctx)))
        folder = path.absolute().parent
        if not folder.is_dir():
            self.fail(f"{path}: there is no folder {folder}", param, ctx)
        try:
            is_new = not path.exists()
        except OSError as error:  # such as for the length of its name
            self.fail(f"{path}: {error.strerror}", param, ctx)
        if is_new and not os.access(folder, os.W_OK | os.X_OK):
            self.fail(f"{path}: {folder} cannot be written into", param, ctx)
        return path


NEW_FILE: Final = _NewFile(dir_okay=False, writable=True)
SECONDS: Final = _kind(seconds)
POSITIVE_SECONDS: Final = _kind(positive_seconds)
RATES: Final = _kind(rates)
COUNTS: Final = _kind(counts)
SHAPE: Final = _kind(shape)
HEADER: Final = _kind(header)
OBJECTIVE: Final = _kind(slo.parse)
