"""Large bodies lie where their tensors can be used in place."""

import asyncio

import numpy as np
import pytest

from serving.gateway.large_body import LargeBody


@pytest.mark.parametrize("aligned", [0, 1, 63, 64, 149])
def test_the_tensors_are_aligned_and_the_bytes_are_those_that_came(aligned: int) -> None:
    content = np.random.default_rng(0).bytes(1000)
    told: list[bytes | None] = []
    body = LargeBody(
        asyncio.Protocol(),
        len(content),
        content[:10],
        aligned,
        lambda: told.append(None),
        lambda whole: told.append(bytes(whole)),
    )
    address = np.frombuffer(body.get_buffer(-1), np.uint8).ctypes.data - 10 + aligned
    assert address % 64 == 0
    for end in (11, 400, 1000):
        room = body.get_buffer(-1)
        start = len(content) - len(room)
        room[: end - start] = content[start:end]
        body.buffer_updated(end - start)
    assert told == [None, None, content]
