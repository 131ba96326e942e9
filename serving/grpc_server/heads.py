"""What the headers of a request say, understood once for all requests that send the same."""

import base64
import binascii
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from grpc import StatusCode

from serving.grpc_server import statuses
from serving.grpc_server.messages import ENCODINGS, IDENTITY
from serving.http2 import headers
from serving.http2.unpacking import Headers

Metadata: TypeAlias = tuple[tuple[str, str | bytes], ...]

_PSEUDO: Final = frozenset((b":method", b":scheme", b":path", b":authority"))
_REQUIRED: Final = (b":method", b":scheme", b":path")
_FORBIDDEN: Final = frozenset(
    (b"connection", b"keep-alive", b"proxy-connection", b"transfer-encoding", b"upgrade")
)
_NAME: Final = re.compile(rb":?[!#$%&'*+\-.^_`|~0-9a-z]+")
_VALUE: Final = re.compile(rb"[^\0\r\n]*")
_OF_THE_PROTOCOL: Final = frozenset(
    (
        *_PSEUDO,
        b"content-type",
        b"content-length",
        b"te",
        b"grpc-timeout",
        b"grpc-encoding",
        b"grpc-accept-encoding",
    )
)
_TIMEOUT: Final = re.compile(rb"(\d{1,8})([HMSmun])")
_UNITS: Final = {b"H": 3600.0, b"M": 60.0, b"S": 1.0, b"m": 1e-3, b"u": 1e-6, b"n": 1e-9}
_CONTENT: Final = re.compile(rb"application/grpc(?:[+;]|$)")
_LENGTH: Final = re.compile(rb"\d{1,18}")
# As gRPC's own servers refuse more than that; with 32 bytes for each header.
_MAX_METADATA: Final = 64 * 1024
_OVERHEAD: Final = 32


@dataclass(frozen=True, slots=True)
class Head:
    """A request as far as its headers tell.

    `path`      the method, as `/SERVICE/METHOD`
    `handler`   what answers it, as the `grpc` package describes it; None: nothing does
    `timeout`   how long the client waits, in seconds; None: as long as it takes
    `packing`   how responses are encoded
    `length`    of the body in bytes, where the client has announced it
    `refusal`   the block that answers it in the handler's stead; None where there is neither, for
                what HTTP/2 does not allow
    """

    path: str = ""
    handler: Any = None
    timeout: float | None = None
    encoding: str = IDENTITY
    packing: str = IDENTITY
    metadata: Metadata = ()
    length: int | None = None
    refusal: bytes | None = None


_INVALID: Final = Head()


def understand(find: Callable[[str], Any], encodings: Sequence[str], received: Headers) -> Head:
    """The head that `received` is; `find` gives the handler of a path, or None.

    Responses are encoded by the first of `encodings` that the client accepts.
    """
    fields: dict[bytes, bytes] = {}
    for name, value in received:
        if name in fields and name in _PSEUDO:
            return _INVALID
        fields[name] = value
    if not _is_valid(received, fields):
        return _INVALID
    length = fields.get(b"content-length")
    try:
        return _head(find, encodings, received, fields)
    except _Refused as refused:
        return Head(refusal=refused.block, length=None if length is None else int(length))


class _Refused(Exception):
    def __init__(self, block: bytes) -> None:
        super().__init__()
        self.block = block


def _head(
    find: Callable[[str], Any],
    encodings: Sequence[str],
    received: Headers,
    fields: dict[bytes, bytes],
) -> Head:
    if fields[b":method"] != b"POST":
        raise _Refused(headers.status(405))
    if not _CONTENT.match(fields.get(b"content-type", b"")):
        raise _Refused(headers.status(415))
    if sum(len(name) + len(value) + _OVERHEAD for name, value in received) > _MAX_METADATA:
        raise _refused(StatusCode.RESOURCE_EXHAUSTED, "received metadata size exceeds hard limit")
    path = fields[b":path"].decode("latin-1")
    handler = find(path)
    if handler is None:
        raise _refused(StatusCode.UNIMPLEMENTED, f"Method not found: {path[:256]}")
    encoding = fields.get(b"grpc-encoding", b"identity").decode("latin-1")
    if encoding not in ENCODINGS:
        raise _refused(StatusCode.UNIMPLEMENTED, f"grpc-encoding {encoding[:64]} is not supported")
    length = fields.get(b"content-length")
    accepted = fields.get(b"grpc-accept-encoding", b"").decode("latin-1")
    accepts = [name.strip() for name in accepted.split(",")]
    return Head(
        path=path,
        handler=handler,
        timeout=_timeout(fields.get(b"grpc-timeout")),
        encoding=encoding,
        packing=next((name for name in encodings if name in accepts), IDENTITY),
        metadata=tuple(_metadata(received)),
        length=None if length is None else int(length),
    )


def _refused(code: StatusCode, message: str) -> _Refused:
    return _Refused(statuses.trailers(code, message, is_all=True))


def _is_valid(received: Headers, fields: dict[bytes, bytes]) -> bool:
    regular = False
    for name, value in received:
        if not (_NAME.fullmatch(name) and _VALUE.fullmatch(value)) or name in _FORBIDDEN:
            return False
        is_pseudo = name.startswith(b":")
        if is_pseudo and (regular or name not in _PSEUDO):
            return False
        regular = regular or not is_pseudo
    return (
        all(fields.get(name) for name in _REQUIRED)
        and fields.get(b"te", b"trailers") == b"trailers"
        and bool(_LENGTH.fullmatch(fields.get(b"content-length", b"0")))
    )


def _timeout(value: bytes | None) -> float | None:
    if value is None:
        return None
    found = _TIMEOUT.fullmatch(value)
    if not found:
        raise _refused(StatusCode.INTERNAL, "grpc-timeout is not of up to 8 digits and a unit")
    timeout = int(found[1]) * _UNITS[found[2]]
    if not timeout:
        raise _refused(StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded")
    return timeout


def _metadata(received: Headers) -> Iterable[tuple[str, str | bytes]]:
    for name, value in received:
        if name in _OF_THE_PROTOCOL:
            continue
        if not name.endswith(b"-bin"):
            yield name.decode("latin-1"), value.decode("latin-1")
            continue
        for part in value.split(b","):
            try:
                content = base64.b64decode(part + b"=" * (-len(part) % 4), validate=True)
            except binascii.Error:
                raise _refused(StatusCode.INTERNAL, "binary metadata that is not base64") from None
            yield name.decode("latin-1"), content
