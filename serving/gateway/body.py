"""Bodies, packed and plain: reads a request's, never more than the limit, and packs an answer's."""

import asyncio
import zlib
from functools import lru_cache
from typing import Final

from fastapi import Request
from starlette.requests import ClientDisconnect

from serving.errors import Cancelled, InvalidArgument, PayloadTooLarge, UnknownEncoding

# zlib's window sizes: a gzip wrapper only; a zlib wrapper, which is what HTTP calls deflate.
_WINDOWS: Final = {"gzip": zlib.MAX_WBITS | 16, "deflate": zlib.MAX_WBITS}
# Either of the two, whichever the data say they are: as Triton, for clients that mix up the names.
_EITHER: Final = zlib.MAX_WBITS | 32
ACCEPTED_ENCODINGS: Final = ", ".join(_WINDOWS)
# What fits a packet gains nothing from being smaller.
_WORTH_PACKING: Final = 1024
# Packing more than this takes longer than going to another thread and back.
_LONG: Final = 64 * 1024


async def read(request: Request, limit: int) -> bytes:
    """The body of `request`, at most `limit` bytes before and after decompression.

    Raises PayloadTooLarge, InvalidArgument for broken compressed data, UnknownEncoding for a
    Content-Encoding that is not accepted, Cancelled if the client goes before it has sent all.
    """
    encoding = request.headers.get("content-encoding", "identity").strip().lower()
    announced = request.headers.get("content-length", "0")
    # Refused before it is read: a client that announces too much need not send it.
    if announced.isdecimal() and int(announced) > limit:
        raise _too_large(f"{announced} bytes", limit)
    if encoding not in ("identity", "") and encoding not in _WINDOWS:
        raise UnknownEncoding(
            f"Content-Encoding is {encoding!r}, expected one of: {ACCEPTED_ENCODINGS}"
        )
    body = await _received(request, limit)
    if encoding not in _WINDOWS:
        return body
    # However short it is, it may take as long as the limit lets it: others go on meanwhile.
    return await asyncio.to_thread(_unpack, body, encoding, limit)


async def _received(request: Request, limit: int) -> bytes:
    chunks, size = [], 0
    try:
        async for chunk in request.stream():
            size += len(chunk)
            if size > limit:
                raise _too_large(f"more than {limit} bytes", limit)
            chunks.append(chunk)
    except ClientDisconnect:
        raise Cancelled("the client closed the connection before it had sent its request") from None
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


async def pack(body: bytes, accepted: str) -> tuple[bytes, dict[str, str]]:
    """`body` packed as `accepted` (an Accept-Encoding) asks, and the headers that say so.

    Left plain where neither gzip nor deflate is asked for by name, or where nothing is gained.
    """
    encoding = _preferred(accepted)
    if not encoding or len(body) < _WORTH_PACKING:
        return body, {}
    if len(body) > _LONG:
        body = await asyncio.to_thread(_pack, body, encoding)
    else:
        body = _pack(body, encoding)
    return body, {"Content-Encoding": encoding}


def _pack(body: bytes, encoding: str) -> bytes:
    # Tensors of floats hardly shrink at any level; the fastest it is.
    packer = zlib.compressobj(zlib.Z_BEST_SPEED, wbits=_WINDOWS[encoding])
    return packer.compress(body) + packer.flush()


@lru_cache(256)
def _preferred(accepted: str) -> str:
    """The encoding of ours to which the header gives the greatest weight; "" if it names none."""
    weights = {}
    for item in accepted.split(","):
        name, _, parameters = item.partition(";")
        weights[name.strip().lower()] = _weight(parameters)
    best = max(_WINDOWS, key=lambda encoding: weights.get(encoding, 0.0))
    return best if weights.get(best, 0.0) > 0 else ""


def _weight(parameters: str) -> float:
    name, _, value = parameters.partition("=")
    if name.strip().lower() != "q":
        return 1.0
    try:
        return float(value)
    except ValueError:
        return 0.0


def _unpack(body: bytes, encoding: str, limit: int) -> bytes:
    packer = zlib.decompressobj(_EITHER)
    try:
        content = packer.decompress(body, limit + 1)
    except zlib.error as error:
        raise InvalidArgument(f"the body is not valid {encoding} data: {error}") from None
    if len(content) > limit:
        raise _too_large(f"more than {limit} bytes once unpacked", limit)
    if not packer.eof:
        raise InvalidArgument(f"the body's {encoding} data ends too early")
    if packer.unused_data:  # which may be the better part of it, where somebody has joined files
        raise InvalidArgument(
            f"the body goes on behind the end of its {encoding} data: expected one whole of them"
        )
    return content


def _too_large(size: str, limit: int) -> PayloadTooLarge:
    return PayloadTooLarge(
        f"the request body has {size}; the server accepts at most {limit} (--http-max-input-size)"
    )
