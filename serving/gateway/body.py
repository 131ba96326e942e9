"""Reads a request's body: never more than the limit, decompressed where it says it is packed."""

import zlib
from typing import Final

from fastapi import Request

from serving.errors import InvalidArgument, PayloadTooLarge, Unsupported

# zlib's window sizes: a gzip wrapper only; a zlib wrapper, which is what HTTP calls deflate.
_WINDOWS: Final = {"gzip": zlib.MAX_WBITS | 16, "deflate": zlib.MAX_WBITS}
ACCEPTED_ENCODINGS: Final = ", ".join(_WINDOWS)


async def read(request: Request, limit: int) -> bytes:
    """The body of `request`, at most `limit` bytes before and after decompression.

    Raises PayloadTooLarge, InvalidArgument for broken compressed data, Unsupported for a
    Content-Encoding that is not accepted.
    """
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    announced = request.headers.get("content-length", "0")
    # Refused before it is read: a client that announces too much need not send it.
    if announced.isdecimal() and int(announced) > limit:
        raise _too_large(f"{announced} bytes", limit)
    if encoding not in ("identity", "") and encoding not in _WINDOWS:
        raise Unsupported(
            f"Content-Encoding is {encoding!r}, expected one of: {ACCEPTED_ENCODINGS}"
        )
    chunks, size = [], 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise _too_large(f"more than {limit} bytes", limit)
        chunks.append(chunk)
    body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
    return _unpack(body, encoding, limit) if encoding in _WINDOWS else body


def _unpack(body: bytes, encoding: str, limit: int) -> bytes:
    packer = zlib.decompressobj(_WINDOWS[encoding])
    try:
        content = packer.decompress(body, limit + 1)
    except zlib.error as error:
        raise InvalidArgument(f"the body is not valid {encoding} data: {error}") from None
    if len(content) > limit:
        raise _too_large(f"more than {limit} bytes once unpacked", limit)
    if not packer.eof:
        raise InvalidArgument(f"the body's {encoding} data ends too early")
    return content


def _too_large(size: str, limit: int) -> PayloadTooLarge:
    return PayloadTooLarge(
        f"the request body has {size}; the server accepts at most {limit} (--http-max-input-size)"
    )
