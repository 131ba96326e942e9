"""Header blocks mean what the `hpack` package says, also those that it is not asked about."""

import tracemalloc
from itertools import count
from typing import Final

import hpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.http2 import frames
from serving.http2.frames import ConnectionFault, Setting
from serving.http2.headers import HeaderReader, status
from serving.http2.tables import Tables
from serving.http2.unpacking import MAX_LIST, Headers
from tests.serving.http2.peer import Peer

NAMES: Final = (b":path", b"te", b"user-agent", b"x-request-id", b"authorization")
NAME: Final = st.sampled_from(NAMES)
VALUE: Final = st.one_of(st.binary(max_size=40), st.sampled_from([b"", b"a" * 126, b"b" * 127]))
# A name, a value, and whether no table may keep it.
LIST: Final = st.lists(st.tuples(NAME, VALUE, st.booleans()), max_size=8)


def tables() -> Tables[Headers]:
    return Tables(lambda headers: headers)


def reader() -> HeaderReader[Headers]:
    return HeaderReader(tables())


@given(st.lists(LIST, max_size=12), st.booleans())
def test_every_request_of_a_connection_is_read_as_it_was_sent(
    requests: list[list[tuple[bytes, bytes, bool]]], huffman: bool
) -> None:
    encoder, received = hpack.Encoder(), reader()

    for sent in requests:
        block = encoder.encode(sent, huffman=huffman)
        assert [*received.read(block)] == [(name, value) for name, value, _ in sent]


@given(st.lists(LIST, min_size=1, max_size=4), st.lists(st.integers(0, 3), max_size=24))
def test_connections_that_send_the_same_at_first_are_each_read_as_they_go_on(
    requests: list[list[tuple[bytes, bytes, bool]]], choices: list[int]
) -> None:
    shared, turns = tables(), iter(choices)

    for _ in range(6):
        encoder, received = hpack.Encoder(), HeaderReader(shared)
        for index in range(6):
            sent = requests[next(turns, index) % len(requests)]
            block = encoder.encode(sent)
            assert [*received.read(block)] == [(name, value) for name, value, _ in sent]


@given(st.integers(40, 4096), st.integers(0, 3))
def test_a_table_that_a_client_makes_smaller_is_so_for_its_connections_alone(
    size: int, smaller: int
) -> None:
    shared = tables()
    sent = [(b":path", b"/a"), (b"user-agent", b"x" * 30), (b"te", b"trailers")]

    for connection in range(8):
        encoder, received = hpack.Encoder(), HeaderReader(shared)
        if connection % 4 <= smaller:
            encoder.header_table_size = size
        for _ in range(3):
            assert [*received.read(encoder.encode(sent))] == sent


@pytest.mark.parametrize("is_kept", [True, False], ids=["kept in the table", "kept nowhere"])
def test_what_is_understood_for_all_connections_does_not_add_up(is_kept: bool) -> None:
    numbers = count(1)
    shared = Tables(lambda _: next(numbers))

    def first(number: int) -> int:
        sent = [(b"a", b"%d" % number, not is_kept)]
        return HeaderReader(shared).read(hpack.Encoder().encode(sent))

    assert [first(0), first(0), first(0)] == [1, 2, 2]
    for number in range(1, 200):
        first(number), first(number)
    assert first(0) > 2
    assert first(0) == first(0)


@pytest.mark.parametrize(
    ("is_shared", "is_long"),
    [(True, False), (False, False), (False, True)],
    ids=["by all", "by one connection", "in a long block"],
)
def test_of_what_says_much_little_is_remembered(is_shared: bool, is_long: bool) -> None:
    copying: Tables[list[str]] = Tables(lambda headers: [value.decode() for _, value in headers])
    first = hpack.Encoder().encode([(b"n", b"v" * 1000)])
    received = HeaderReader(copying)
    received.read(first)
    if is_long:
        fields = [hpack.NeverIndexedHeaderTuple(b"te", b"%d" % n * 8000) for n in range(32)]
        blocks = [hpack.Encoder().encode([field]) for field in fields]
    else:
        # What is short refers to the long value in the table.
        blocks = [b"\x82" * n + b"\xbe" * 60 for n in range(32)]
    tracemalloc.start()
    for block in blocks * 4:
        if is_shared:
            received = HeaderReader(copying)
            received.read(first)
        received.read(bytes(bytearray(block)))  # as new as what a connection receives
    kept = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert kept < 2**17


@st.composite
def broken(draw: st.DrawFn) -> list[bytes]:
    """The blocks of a connection, some of them with other bytes than were sent."""
    encoder, blocks = hpack.Encoder(), []
    for sent in draw(st.lists(LIST, min_size=1, max_size=6)):
        block = bytearray(encoder.encode(sent))
        for _ in range(draw(st.integers(0, 2))):
            at = draw(st.integers(0, len(block)))
            block[at : at + draw(st.integers(0, 1))] = draw(st.binary(max_size=2))
        blocks.append(bytes(block))
    return blocks


@given(broken())
def test_what_hpack_refuses_ends_the_connection_and_all_else_is_read_alike(
    blocks: list[bytes],
) -> None:
    shared = tables()

    for _ in range(3):
        decoder, received = hpack.Decoder(MAX_LIST), HeaderReader(shared)
        for block in blocks:
            try:
                wanted = [(bytes(n), bytes(v)) for n, v in decoder.decode(block, raw=True)]
            except hpack.HPACKError:
                with pytest.raises(ConnectionFault):
                    received.read(block)
                break
            assert [*received.read(block)] == wanted


def test_an_id_that_changes_with_each_request_is_the_only_thing_that_does() -> None:
    encoder, received = hpack.Encoder(), reader()

    for number in range(200):
        sent = [(b":path", b"/a"), (b"x-request-id", b"%036d" % number), (b"te", b"trailers")]
        assert [*received.read(encoder.encode(sent))] == sent


def test_a_client_without_room_for_a_table_is_told_that_none_is_used() -> None:
    peer = Peer().greet(frames.settings({Setting.HEADER_TABLE_SIZE: 0}))
    decoder = hpack.Decoder()
    # As strict as nghttp2: a block that does not say so breaks the connection.
    decoder.max_allowed_table_size = 0
    for stream in (1, 3):
        peer.ask(stream)
        peer.connection.sender.send(peer.connection.streams[stream], status(200))
        [answer] = peer.answers()
        assert [(str(name), str(value)) for name, value in decoder.decode(answer.payload)] == [
            (":status", "200")
        ]


def test_few_bytes_that_stand_for_very_many_end_the_connection() -> None:
    received = reader()
    received.read(hpack.Encoder().encode([(b"x", b"y" * 4000)]))
    newest = bytes((0x80 | 62,))

    assert len(received.read(newest * 32)) == 32
    with pytest.raises(ConnectionFault, match="too many headers"):
        received.read(newest * 33)
