"""Large tensors lie in memory that two processes share, each piece until nobody looks at it."""

import asyncio
import contextlib
import gc
import mmap
import os
import socket
from collections.abc import AsyncIterator, Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.dtypes import Datatype
from serving.types import InferenceRequest, Tensor
from serving.workers import arena, inference
from serving.workers.arena import LEAST, Arena, Pieces
from serving.workers.channel import Channel, Message

PAGE = mmap.PAGESIZE


@pytest.fixture
def memory() -> Iterator[int]:
    descriptor = arena.create()
    yield descriptor
    os.close(descriptor)


def numbers(count: int) -> Any:
    return np.arange(count, dtype=np.float32)


@given(st.lists(st.integers(1, 5 * PAGE) | st.just(0), max_size=60), st.randoms())
def test_pieces_never_overlap_and_all_room_comes_back(sizes: list[int], random: Any) -> None:
    pieces, used = Pieces(20 * PAGE), dict[int, int]()
    for size in sizes:
        if size and (offset := pieces.take(size)) is not None:
            end = offset + size
            assert end <= 20 * PAGE
            assert all(end <= at or at + held <= offset for at, held in used.items())
            used[offset] = size
        elif used:
            assert pieces.give_back(used_at := random.choice(list(used))) >= used.pop(used_at)
    for offset in used:
        pieces.give_back(offset)
    assert pieces.take(20 * PAGE) == 0


def test_what_one_half_lends_the_other_reads_and_may_not_change(memory: int) -> None:
    one, other = Arena(memory, 0), Arena(memory, 1)
    place = one.lend(numbers(50_000)[::2])
    assert place is not None
    content = other.borrow(*place, lambda offset: None)
    np.testing.assert_array_equal(content.view(np.float32), numbers(50_000)[::2])
    with pytest.raises(ValueError, match="read-only"):
        content[0] = 1


def test_a_piece_is_given_back_once_the_last_view_of_it_has_gone(memory: int) -> None:
    returned: list[int] = []
    one, other = Arena(memory, 0), Arena(memory, 1)
    place = one.lend(numbers(1000))
    assert place is not None
    whole = np.ndarray((1000,), np.float32, other.borrow(*place, returned.append))
    part = whole.reshape(10, 100)[3]
    del whole
    gc.collect()
    assert not returned
    np.testing.assert_array_equal(part, numbers(1000)[300:400])
    del part
    gc.collect()
    assert returned == [place[0]]


def test_a_piece_that_was_given_back_is_used_again_and_no_other_is_touched(memory: int) -> None:
    one = Arena(memory, 1)
    for _ in range(1000):
        place = one.lend(numbers(100_000))
        assert place is not None
        assert place[0] == arena.HALF
        one.take_back(place[0])
    assert os.fstat(memory).st_blocks * 512 <= 2 * 400_000


def test_pages_beyond_what_is_kept_go_back_to_the_system(memory: int) -> None:
    one = Arena(memory, 0)
    places = [one.lend(np.ones(arena.KEPT, np.uint8)) for _ in range(3)]
    assert os.fstat(memory).st_blocks * 512 >= 3 * arena.KEPT
    for place in places:
        assert place is not None
        one.take_back(place[0])
    assert os.fstat(memory).st_blocks * 512 <= arena.KEPT


def itself(channel: Channel) -> Channel:
    return channel


@contextlib.asynccontextmanager
async def connected(memory: int, came: "asyncio.Queue[Message]") -> AsyncIterator[list[Channel]]:
    """Two ends, each with its arena; what either gets comes into one queue."""
    loop = asyncio.get_running_loop()
    channels = []
    for half, end in enumerate(socket.socketpair()):
        channel = Channel(came.put_nowait, lambda: None)
        channel.arena = Arena(memory, half)
        await loop.create_unix_connection(partial(itself, channel), sock=end)
        channels.append(channel)
    yield channels
    for channel in channels:
        channel.close()


async def test_a_large_request_arrives_by_the_arena_and_a_small_one_in_the_message(
    memory: int,
) -> None:
    came = asyncio.Queue[Message]()
    async with connected(memory, came) as (one, _):
        for size in (LEAST // 4, LEAST // 4 - 1):
            sent = InferenceRequest("m", (Tensor("x", Datatype.FP32, numbers(size)),))
            one.send(1, "infer", inference.from_request(sent, one.content))
            _, _, values = await came.get()
            content = values[1][0][3]
            assert isinstance(content, np.ndarray if size * 4 >= LEAST else bytes)
            array = inference.to_request(values).inputs[0].array
            np.testing.assert_array_equal(array, numbers(size))


async def test_what_nobody_takes_out_of_a_message_is_given_back_as_well(memory: int) -> None:
    came = asyncio.Queue[Message]()
    async with connected(memory, came) as (one, other):
        first = one.content(numbers(LEAST))
        one.send(1, "infer", first)
        await came.get()
        gc.collect()
        # The word of it travels before this message.
        asyncio.get_running_loop().call_soon(other.send, 2, "done")
        await came.get()
        again = one.content(numbers(LEAST))
        assert again == first


async def test_where_the_arena_is_full_arrays_travel_in_the_message(memory: int) -> None:
    came = asyncio.Queue[Message]()
    async with connected(memory, came) as (one, _):
        assert one.arena is not None
        assert one.arena.lend(np.empty(arena.HALF, np.uint8)) is not None
        one.send(1, "infer", one.content(numbers(LEAST)))
        _, _, content = await came.get()
        np.testing.assert_array_equal(np.frombuffer(content, np.float32), numbers(LEAST))
