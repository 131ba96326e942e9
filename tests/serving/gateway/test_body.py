"""Which answers are packed, and how."""

import asyncio
import gzip
import zlib
from collections.abc import Callable
from typing import TypeAlias

import pytest
from fastapi import Request

from serving.errors import Cancelled, InvalidArgument
from serving.gateway.body import pack, read

Message: TypeAlias = dict[str, object]
LONG = bytes(range(256)) * 400
UNPACK: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.decompress, "deflate": zlib.decompress}


def sent(*messages: Message, encoding: str = "identity") -> Request:
    """A request of which a server tells the application so much."""
    waiting = iter(messages)

    async def receive() -> Message:
        return next(waiting)

    headers = [(b"content-encoding", encoding.encode())]
    return Request({"type": "http", "headers": headers}, receive)


@pytest.mark.parametrize(
    ("accepted", "encoding"),
    [
        ("gzip", "gzip"),
        ("deflate", "deflate"),
        ("gzip, deflate", "gzip"),
        ("deflate, gzip", "gzip"),
        ("deflate;q=1.0, gzip;q=0.5", "deflate"),
        ("deflate;q=0.1, gzip;q=0", "deflate"),
        ("br, GZIP ; Q=0.2", "gzip"),
    ],
)
@pytest.mark.parametrize("length", [2000, len(LONG)])
async def test_an_answer_is_packed_as_the_client_prefers(
    accepted: str, encoding: str, length: int
) -> None:
    content, headers = await pack(LONG[:length], accepted)
    assert headers == {"Content-Encoding": encoding}
    assert UNPACK[encoding](content) == LONG[:length]
    assert len(content) < length


@pytest.mark.parametrize(
    "accepted", ["", "identity", "br", "*", "gzip;q=0", "gzip;q=0.0, deflate;q=0", "gzip;q=x", ",;"]
)
async def test_an_answer_stays_plain_unless_a_packing_of_ours_is_asked_for(accepted: str) -> None:
    assert await pack(LONG, accepted) == (LONG, {})


async def test_a_short_answer_stays_plain() -> None:
    assert await pack(LONG[:1000], "gzip") == (LONG[:1000], {})


async def test_a_client_that_goes_while_it_sends_is_no_fault_of_the_server() -> None:
    request = sent(
        {"type": "http.request", "body": b'{"inp', "more_body": True}, {"type": "http.disconnect"}
    )
    with pytest.raises(Cancelled, match="before it had sent its request"):
        await read(request, limit=100)


@pytest.mark.parametrize(("named", "packing"), [("gzip", "deflate"), ("deflate", "gzip")])
async def test_a_body_is_unpacked_as_it_was_packed_whichever_name_it_is_given(
    named: str, packing: str
) -> None:
    packed = gzip.compress(LONG) if packing == "gzip" else zlib.compress(LONG)
    request = sent({"type": "http.request", "body": packed}, encoding=named)
    assert await read(request, limit=len(LONG)) == LONG


@pytest.mark.parametrize("behind", [b"x", gzip.compress(LONG)])
async def test_nothing_behind_a_packed_body_is_lost_without_a_word(behind: bytes) -> None:
    body = gzip.compress(LONG) + behind
    with pytest.raises(InvalidArgument, match="goes on behind the end of its gzip data"):
        await read(sent({"type": "http.request", "body": body}, encoding="gzip"), 2**30)


async def test_others_go_on_while_a_body_is_unpacked() -> None:
    request = sent({"type": "http.request", "body": gzip.compress(LONG)}, encoding="gzip")
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    task = asyncio.create_task(others())
    assert await read(request, limit=len(LONG)) == LONG
    assert turns > 0
    task.cancel()
