"""What begins and ends a response: blocks of headers, most of them made once."""

from collections.abc import Iterable
from typing import Final

from grpc import StatusCode

from serving.grpc_server.messages import ENCODINGS, IDENTITY
from serving.http2 import headers

_CONTENT: Final = (b"content-type", b"application/grpc")
_ACCEPT: Final = (b"grpc-accept-encoding", ", ".join(ENCODINGS).encode())
_PLAIN: Final = bytes(c for c in range(0x20, 0x7F) if c != ord("%"))

HEAD: Final = {
    encoding: headers.status(200)
    + headers.block(
        (_CONTENT, _ACCEPT)
        if encoding == IDENTITY
        else (_CONTENT, _ACCEPT, (b"grpc-encoding", encoding.encode()))
    )
    for encoding in ENCODINGS
}
OK: Final = headers.block(((b"grpc-status", b"0"),))


def trailers(
    code: StatusCode, message: str, metadata: Iterable[tuple[str, str]] = (), *, is_all: bool
) -> bytes:
    """The block that ends a response; `is_all`: of which nothing has been sent before."""
    block = headers.status(200) + headers.block((_CONTENT, _ACCEPT)) if is_all else b""
    told = [(b"grpc-status", str(code.value[0]).encode())]
    if message:
        told.append((b"grpc-message", percent_encoded(message)))
    return block + _with(headers.block(told), metadata)


def good_end(metadata: Iterable[tuple[str, str]]) -> bytes:
    """The block behind the last message of a call that ends well, with what its handler tells."""
    return _with(OK, metadata)


def _with(block: bytes, metadata: Iterable[tuple[str, str]]) -> bytes:
    for name, value in metadata:
        block += headers.field(name, value)
    return block


def percent_encoded(message: str) -> bytes:
    """`message` in printable ASCII, as the header that carries it must be."""
    content = message.encode("utf-8", "replace")
    if not content.translate(None, _PLAIN):
        return content
    return b"".join(bytes((byte,)) if byte in _PLAIN else b"%%%02X" % byte for byte in content)
