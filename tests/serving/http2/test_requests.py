"""What comes on a connection: requests, in whichever pieces, and what is not one."""

import pytest

from serving.http2 import frames
from serving.http2.connection import Terms
from serving.http2.frames import Fault, Kind
from tests.serving.http2.peer import REQUEST, Peer

ENDS = frames.END_HEADERS | frames.END_STREAM


def test_a_client_is_told_what_it_may_do_as_soon_as_it_has_greeted() -> None:
    peer = Peer()
    peer.connection.receive(frames.PREFACE)
    assert peer.answers() == []
    peer.send(Kind.SETTINGS)
    told, granted, acknowledged = peer.answers()
    assert [told.kind, granted.kind, acknowledged.kind] == [
        Kind.SETTINGS, Kind.WINDOW_UPDATE, Kind.SETTINGS,
    ]  # fmt: skip
    assert (told.flags, acknowledged.flags) == (0, frames.ACK)


def test_a_request_is_told_of_as_it_comes() -> None:
    peer = Peer().greet()
    peer.ask(1, b"abc")
    assert peer.log == [("opened", 1, b"/a.B/C", False), ("received", 1, b"abc", True)]


def test_it_makes_no_difference_in_which_pieces_a_request_comes() -> None:
    peer = Peer()
    block = peer.block()
    content = (
        frames.PREFACE
        + frames.settings({})
        + frames.frame(Kind.HEADERS, 0, 1, block[:5])
        + frames.frame(Kind.CONTINUATION, frames.END_HEADERS, 1, block[5:])
        + frames.frame(Kind.DATA, frames.END_STREAM, 1, b"abc")
    )
    for index in range(len(content)):
        peer.connection.receive(content[index : index + 1])
    assert peer.log[0] == ("opened", 1, b"/a.B/C", False)
    assert b"".join(entry[2] for entry in peer.log[1:]) == b"abc"
    assert [entry[3] for entry in peer.log[1:]] == [False, False, True]


def test_padding_and_priorities_are_no_part_of_a_request() -> None:
    peer = Peer().greet()
    flags = frames.END_HEADERS | frames.PADDED | frames.PRIORITISED
    peer.send(Kind.HEADERS, flags, 1, b"\x02" + bytes(4) + b"\x10" + peer.block() + b"\0\0")
    peer.send(Kind.DATA, frames.PADDED | frames.END_STREAM, 1, b"\x03abc\0\0\0")
    assert peer.log == [("opened", 1, b"/a.B/C", False), ("received", 1, b"abc", True)]


def test_the_same_headers_are_understood_again_and_others_anew() -> None:
    peer = Peer().greet()
    for stream, path in enumerate((b"/a", b"/a", b"/b", b"/a", b"/b", b"/b")):
        block = peer.block((":path", path.decode()))
        peer.send(Kind.HEADERS, ENDS, 2 * stream + 1, block)
        assert peer.log[-1][2] == path


def test_a_table_that_shrinks_and_grows_changes_what_blocks_mean() -> None:
    peer = Peer().greet()
    grow, shrink = b"\x3f\xe1\x1f", b"\x20"  # to 4096 bytes, to none
    indexed = b"\x44\x02/a"  # :path /a, to be put into the table
    again = b"\xbe"  # the newest of the table
    for stream, block in enumerate((indexed, again, shrink + grow + b"\x44\x02/b", again)):
        peer.send(Kind.HEADERS, ENDS, 2 * stream + 1, block)
    assert [entry[2] for entry in peer.log] == [b"/a", b"/a", b"/b", b"/b"]


def test_trailers_of_a_client_end_its_request() -> None:
    peer = Peer().greet()
    peer.begin(1)
    peer.send(Kind.HEADERS, ENDS, 1, peer.block(("a", "b")))
    assert peer.log[-1] == ("received", 1, b"", True)


def test_a_length_that_was_announced_is_held_against_what_comes() -> None:
    peer = Peer().greet()
    for stream, data in ((1, b"abc"), (3, b"abcd"), (5, b"abcde")):
        peer.begin(stream)
        peer.streams[stream].expected = 4
        peer.send(Kind.DATA, frames.END_STREAM, stream, data)
    assert peer.reset_with() == [(1, Fault.PROTOCOL_ERROR), (5, Fault.PROTOCOL_ERROR)]


def test_more_streams_than_there_may_be_are_refused() -> None:
    peer = Peer(Terms(max_streams=2)).greet()
    for stream in (1, 3, 5):
        peer.begin(stream)
    assert peer.reset_with() == [(5, Fault.REFUSED_STREAM)]
    assert [entry[1] for entry in peer.log] == [1, 3]


def test_unknown_frames_and_flags_mean_nothing() -> None:
    peer = Peer().greet()
    peer.send(99, 0xFF, 1, b"?")
    peer.send(Kind.SETTINGS, 0, 0, b"\xff\xff\0\0\0\1")
    peer.ask(1, b"abc")
    assert [entry[0] for entry in peer.log] == ["opened", "received"]


def test_a_ping_is_answered_with_what_it_says() -> None:
    peer = Peer().greet()
    peer.send(Kind.PING, 0, 0, b"12345678")
    assert peer.answers() == [(Kind.PING, frames.ACK, 0, b"12345678")]


def test_a_stream_that_the_client_gives_up_is_told_of_once() -> None:
    peer = Peer().greet()
    peer.begin(1)
    peer.send(Kind.RST_STREAM, 0, 1, bytes(4))
    peer.send(Kind.RST_STREAM, 0, 1, bytes(4))
    assert peer.log[1:] == [("reset", 1)]


def test_data_of_a_stream_that_is_closed_resets_it() -> None:
    peer = Peer().greet()
    peer.begin(1)
    peer.send(Kind.RST_STREAM, 0, 1, bytes(4))
    peer.send(Kind.DATA, 0, 1, b"abc")
    assert peer.reset_with() == [(1, Fault.STREAM_CLOSED)]


@pytest.mark.parametrize("fault", [Fault.NO_ERROR, Fault.CANCEL])
def test_what_was_sent_before_a_reset_was_heard_of_is_passed_over(fault: Fault) -> None:
    peer = Peer().greet()
    peer.begin(1)
    peer.begin(3)
    if fault:
        peer.connection.reset(peer.streams[1], fault)
    else:
        peer.connection.sender.send(peer.streams[1], trailers=b"\x88")
    assert peer.reset_with() == [(1, fault)]
    peer.send(Kind.DATA, 0, 1, b"abc")
    peer.send(Kind.DATA, frames.PADDED, 1, b"\0abc")
    peer.send(Kind.HEADERS, ENDS, 1, peer.block(("x", "y")))
    assert peer.answers() == []
    peer.send(Kind.DATA, frames.END_STREAM, 3, b"abc")
    assert peer.log[2:] == [("received", 3, b"abc", True)]


def test_what_was_reset_is_remembered_for_a_while_only() -> None:
    peer = Peer().greet()
    for stream in range(1, 2 * 1025, 2):
        peer.begin(stream)
        peer.connection.reset(peer.streams[stream], Fault.CANCEL)
    peer.reset_with()
    peer.send(Kind.DATA, 0, 3, b"abc")
    assert peer.reset_with() == []
    peer.send(Kind.DATA, 0, 1, b"abc")
    assert peer.reset_with() == [(1, Fault.STREAM_CLOSED)]


def test_data_behind_the_end_of_a_request_resets_it() -> None:
    peer = Peer().greet()
    peer.ask(1, b"abc")
    peer.send(Kind.DATA, 0, 1, b"abc")
    assert peer.reset_with() == [(1, Fault.STREAM_CLOSED)]
    assert peer.log[-1] == ("reset", 1)


BLOCK = Peer().block()
BROKEN = {
    "a stream of the server's": (Kind.HEADERS, ENDS, 2, BLOCK, Fault.PROTOCOL_ERROR),
    "no stream": (Kind.HEADERS, ENDS, 0, BLOCK, Fault.PROTOCOL_ERROR),
    "a block that is none": (Kind.HEADERS, ENDS, 1, b"\xff\xff\xff\xff", Fault.COMPRESSION_ERROR),
    "an index that is none": (Kind.HEADERS, ENDS, 1, b"\xfe", Fault.COMPRESSION_ERROR),
    "a cut block": (Kind.HEADERS, ENDS, 1, b"\x40\x0aabc", Fault.COMPRESSION_ERROR),
    "all padding": (Kind.HEADERS, ENDS | frames.PADDED, 1, b"\x05abc", Fault.PROTOCOL_ERROR),
    "no room for a priority": (
        Kind.HEADERS, ENDS | frames.PRIORITISED, 1, b"abc", Fault.FRAME_SIZE_ERROR,
    ),
    "dependence on itself": (Kind.PRIORITY, 0, 1, b"\0\0\0\1\0", Fault.PROTOCOL_ERROR),
    "priority of nothing": (Kind.PRIORITY, 0, 0, b"\0\0\0\1\0", Fault.PROTOCOL_ERROR),
    "data of nothing": (Kind.DATA, 0, 0, b"abc", Fault.PROTOCOL_ERROR),
    "data of a stream to come": (Kind.DATA, 0, 7, b"abc", Fault.PROTOCOL_ERROR),
    "padded data of nothing": (Kind.DATA, frames.PADDED, 1, b"", Fault.PROTOCOL_ERROR),
    "reset of a stream to come": (Kind.RST_STREAM, 0, 7, bytes(4), Fault.PROTOCOL_ERROR),
    "reset of a broken size": (Kind.RST_STREAM, 0, 1, bytes(3), Fault.FRAME_SIZE_ERROR),
    "settings of a stream": (Kind.SETTINGS, 0, 1, b"", Fault.PROTOCOL_ERROR),
    "settings of a broken size": (Kind.SETTINGS, 0, 0, bytes(5), Fault.FRAME_SIZE_ERROR),
    "an answer to settings that says more": (
        Kind.SETTINGS, frames.ACK, 0, bytes(6), Fault.FRAME_SIZE_ERROR,
    ),
    "push neither on nor off": (Kind.SETTINGS, 0, 0, b"\0\2\0\0\0\2", Fault.PROTOCOL_ERROR),
    "a window too wide": (
        Kind.SETTINGS, 0, 0, b"\0\4\xff\xff\xff\xff", Fault.FLOW_CONTROL_ERROR,
    ),
    "frames too small": (Kind.SETTINGS, 0, 0, b"\0\5\0\0\0\1", Fault.PROTOCOL_ERROR),
    "a push": (Kind.PUSH_PROMISE, 0, 1, bytes(4), Fault.PROTOCOL_ERROR),
    "a ping of a stream": (Kind.PING, 0, 1, bytes(8), Fault.PROTOCOL_ERROR),
    "a ping of a broken size": (Kind.PING, 0, 0, bytes(7), Fault.FRAME_SIZE_ERROR),
    "a goodbye of a stream": (Kind.GOAWAY, 0, 1, bytes(8), Fault.PROTOCOL_ERROR),
    "a cut goodbye": (Kind.GOAWAY, 0, 0, bytes(7), Fault.FRAME_SIZE_ERROR),
    "a window of nothing more": (Kind.WINDOW_UPDATE, 0, 0, bytes(4), Fault.PROTOCOL_ERROR),
    "a window far too wide": (
        Kind.WINDOW_UPDATE, 0, 0, b"\x7f\xff\xff\xff", Fault.FLOW_CONTROL_ERROR,
    ),
    "a window of a stream to come": (
        Kind.WINDOW_UPDATE, 0, 7, b"\0\0\0\1", Fault.PROTOCOL_ERROR,
    ),
    "a window of a broken size": (Kind.WINDOW_UPDATE, 0, 0, bytes(5), Fault.FRAME_SIZE_ERROR),
    "what goes on with nothing": (Kind.CONTINUATION, 4, 1, BLOCK, Fault.PROTOCOL_ERROR),
    "too large a frame": (Kind.PING, 0, 0, bytes(65_537), Fault.FRAME_SIZE_ERROR),
    "too large a frame of data": (Kind.DATA, 0, 1, bytes(2**20 + 1), Fault.FRAME_SIZE_ERROR),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_what_breaks_the_rules_ends_the_connection(name: str) -> None:
    kind, flags, stream, payload, fault = BROKEN[name]
    assert Peer().greet().fault(frames.frame(kind, flags, stream, payload)) == fault


@pytest.mark.parametrize(
    "content",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nXX",
        b"\x16\x03\x01",
        frames.PREFACE + bytes(9),
    ],
    ids=["HTTP/1.1", "half a preface", "TLS", "no settings"],
)
def test_a_client_that_speaks_something_else_is_told_so(content: bytes) -> None:
    assert Peer().fault(content) == Fault.PROTOCOL_ERROR


def test_no_other_frame_may_come_amid_a_header_block() -> None:
    peer = Peer().greet()
    peer.send(Kind.HEADERS, 0, 1, peer.block())
    assert peer.fault(frames.frame(Kind.PING, 0, 0, bytes(8))) == Fault.PROTOCOL_ERROR


def test_a_stream_does_not_open_twice() -> None:
    peer = Peer().greet()
    peer.ask(3, b"")
    peer.connection.sender.send(peer.streams[3], trailers=b"\x88")
    again = frames.frame(Kind.HEADERS, ENDS, 3, peer.block())
    assert peer.fault(again) == Fault.STREAM_CLOSED


@pytest.mark.parametrize(
    ("stream", "flags", "fault"),
    [(1, frames.END_HEADERS, Fault.PROTOCOL_ERROR), (3, ENDS, Fault.STREAM_CLOSED)],
    ids=["amid the data", "behind the end"],
)
def test_headers_where_none_may_be_reset_the_stream(stream: int, flags: int, fault: Fault) -> None:
    peer = Peer().greet()
    peer.begin(1)
    peer.ask(3, b"abc")
    peer.send(Kind.HEADERS, flags, stream, peer.block(*REQUEST))
    assert peer.reset_with() == [(stream, fault)]
