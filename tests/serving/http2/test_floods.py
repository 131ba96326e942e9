"""What a client may ask for that costs only the server: up to a point, and then no more."""

import tracemalloc

import pytest

from serving.http2 import frames
from serving.http2.connection import Terms
from serving.http2.frames import Fault, Kind, Setting
from serving.http2.patience import PingPolicy
from tests.serving.http2.peer import Peer

ENOUGH = 20_000
PING = frames.frame(Kind.PING, 0, 0, bytes(8))


@pytest.mark.parametrize(
    "content",
    [
        frames.settings({}),
        frames.frame(Kind.PRIORITY, 0, 1, bytes(3) + b"\5\0"),
        frames.frame(Kind.WINDOW_UPDATE, 0, 0, b"\0\0\0\1"),
        frames.frame(Kind.DATA, 0, 1, b""),
        frames.frame(Kind.GOAWAY, 0, 0, bytes(8)),
        frames.frame(99, 0, 0, b"?"),
    ],
    ids=["settings", "priorities", "windows", "empty data", "goodbyes", "unknown frames"],
)
def test_frames_without_use_are_endured_for_a_while_only(content: bytes) -> None:
    peer = Peer().greet()
    peer.begin(1)
    peer.connection.receive(content * 1000)
    assert peer.fault(content * ENOUGH) == Fault.ENHANCE_YOUR_CALM


def test_settings_are_endured_as_often_as_they_come_however_few_frames_bring_them() -> None:
    peer = Peer().greet()
    peer.begin(1)
    sizes = b"".join(b"\0\4\0\0" + (index % 256).to_bytes(2) for index in range(9000))
    peer.send(Kind.SETTINGS, 0, 0, sizes)
    assert peer.fault(frames.frame(Kind.SETTINGS, 0, 0, sizes)) == Fault.ENHANCE_YOUR_CALM


def test_room_in_which_an_answer_moves_on_is_of_use() -> None:
    peer = Peer().greet(frames.settings({Setting.INITIAL_WINDOW_SIZE: 0}))
    peer.ask(1, b"")
    peer.connection.sender.send(peer.streams[1], b"\x88", bytes(2 * ENOUGH), b"\x88")
    for _ in range(ENOUGH):
        peer.connection.receive(frames.window_update(1, 2) + frames.window_update(0, 2))
    assert not peer.connection.streams


def test_a_header_block_without_end_is_endured_for_a_while_only() -> None:
    peer = Peer().greet()
    peer.send(Kind.HEADERS, 0, 1, b"")
    empty = frames.frame(Kind.CONTINUATION, 0, 1, b"")
    assert peer.fault(empty * ENOUGH) == Fault.ENHANCE_YOUR_CALM


def test_a_header_block_too_large_is_not_unpacked() -> None:
    peer = Peer().greet()
    peer.send(Kind.HEADERS, 0, 1, b"")
    part = frames.frame(Kind.CONTINUATION, 0, 1, bytes(16_384))
    assert peer.fault(part * 5) == Fault.ENHANCE_YOUR_CALM


def test_a_small_block_that_unpacks_to_much_is_not_unpacked_to_the_end() -> None:
    peer = Peer().greet()
    value = "v" * 4000
    peer.send(Kind.HEADERS, frames.END_HEADERS | frames.END_STREAM, 1, peer.block(("n", value)))
    bomb = b"\xbe" * 16_000  # all the same header, out of the table: 64 MB of them
    tracemalloc.start()
    fault = peer.fault(frames.frame(Kind.HEADERS, frames.END_HEADERS, 3, bomb))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert fault == Fault.ENHANCE_YOUR_CALM
    assert peak < 2**20


def test_who_opens_streams_only_to_reset_them_is_cut_off() -> None:
    peer = Peer().greet()

    def pair(stream: int) -> bytes:
        head = frames.frame(Kind.HEADERS, frames.END_HEADERS, stream, peer.block())
        return head + frames.rst_stream(stream, Fault.CANCEL)

    flood = b"".join(pair(2 * index + 1) for index in range(1500))
    assert peer.fault(flood) == Fault.ENHANCE_YOUR_CALM
    assert len(peer.log) <= 2 * 1001


def test_who_resets_some_streams_now_and_then_is_not() -> None:
    peer = Peer().greet()
    for stream in range(1, 10_000, 2):
        peer.now += 0.02
        peer.begin(stream)
        peer.send(Kind.RST_STREAM, 0, stream, bytes(4))
    assert peer.log[-1] == ("reset", 9999)


def test_too_many_pings_end_a_connection() -> None:
    peer = Peer().greet()
    peer.connection.receive(PING * 3)
    assert peer.fault(PING) == Fault.ENHANCE_YOUR_CALM


def test_pings_far_enough_apart_do_not() -> None:
    peer = Peer(Terms(pings=PingPolicy(interval=10, without_calls=True))).greet()
    for _ in range(100):
        peer.now += 10
        peer.connection.receive(PING)
    assert peer.kinds() == [Kind.PING] * 100


def test_without_calls_pings_have_to_be_further_apart() -> None:
    peer = Peer(Terms(pings=PingPolicy(interval=10))).greet()
    peer.begin(1)
    for _ in range(10):
        peer.now += 10
        peer.connection.receive(PING)
    peer.connection.reset(peer.streams[1], Fault.CANCEL)
    assert peer.fault(PING * 3) == Fault.ENHANCE_YOUR_CALM


def test_each_response_lets_a_client_ping_anew() -> None:
    peer = Peer().greet()
    for stream in range(1, 100, 2):
        peer.ask(stream, b"abc")
        peer.connection.receive(PING * 2)
        peer.connection.sender.send(peer.streams[stream], b"\x88", b"abc", b"\x88")
    assert peer.kinds().count(Kind.PING) == 100


def test_any_number_of_pings_may_be_allowed() -> None:
    peer = Peer(Terms(pings=PingPolicy(strikes=0))).greet()
    peer.connection.receive(PING * 1000)
    assert len(peer.answers()) == 1000
