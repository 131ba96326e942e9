"""Which answers are packed, and how."""

import gzip
import zlib
from collections.abc import Callable, Iterator

import pytest
from fastapi import Request

from serving.errors import Cancelled
from serving.gateway.body import pack, read

LONG = bytes(range(256)) * 400
UNPACK: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.decompress, "deflate": zlib.decompress}


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
    content, headers = await pack([LONG[: length // 2], LONG[length // 2 : length]], accepted)
    assert headers == {"Content-Encoding": encoding}
    assert UNPACK[encoding](content) == LONG[:length]
    assert len(content) < length


@pytest.mark.parametrize(
    "accepted", ["", "identity", "br", "*", "gzip;q=0", "gzip;q=0.0, deflate;q=0", "gzip;q=x", ",;"]
)
async def test_an_answer_stays_plain_unless_a_packing_of_ours_is_asked_for(accepted: str) -> None:
    assert await pack([LONG], accepted) == (LONG, {})


async def test_a_short_answer_stays_plain() -> None:
    assert await pack([LONG[:500], memoryview(LONG[:500])], "gzip") == (LONG[:500] * 2, {})


async def test_a_client_that_goes_while_it_sends_is_no_fault_of_the_server() -> None:
    messages: Iterator[dict[str, object]] = iter(
        [
            {"type": "http.request", "body": b'{"inp', "more_body": True},
            {"type": "http.disconnect"},
        ]
    )

    async def receive() -> dict[str, object]:
        return next(messages)

    with pytest.raises(Cancelled, match="before it had sent its request"):
        await read(Request({"type": "http", "headers": []}, receive), limit=100)
