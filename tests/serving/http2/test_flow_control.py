"""How much may be under way: from the client by what it was granted, to it by what it grants."""

from serving.http2 import frames
from serving.http2.connection import Terms
from serving.http2.frames import Fault, Kind, Setting
from tests.serving.http2.peer import Frame, Peer, parsed

ROOM = frames.DEFAULT_WINDOW
OK = b"\x88"


def granted(answers: list[Frame], stream: int) -> int:
    """What the client has been granted on a stream."""
    return sum(
        frames.increment(frame.payload)
        for frame in answers
        if frame.kind == Kind.WINDOW_UPDATE and frame.stream == stream
    )


def data_of(answers: list[Frame], stream: int) -> bytes:
    parts = [f.payload for f in answers if f.kind == Kind.DATA and f.stream == stream]
    return b"".join(parts)


def widen(stream: int, size: int) -> bytes:
    return frames.window_update(stream, size)


def answer(peer: Peer, stream: int, size: int) -> None:
    peer.connection.sender.send(peer.streams[stream], OK, bytes(size), OK)


def test_an_answer_that_fits_leaves_in_one_piece() -> None:
    peer = Peer().greet()
    peer.ask(1, b"")
    answer(peer, 1, 1000)
    assert peer.kinds() == [Kind.HEADERS, Kind.DATA, Kind.HEADERS]
    assert not peer.connection.streams


def test_an_answer_larger_than_a_frame_comes_in_several() -> None:
    peer = Peer().greet()
    peer.ask(1, b"")
    answer(peer, 1, 40_000)
    answers = peer.answers()
    sizes = [len(frame.payload) for frame in answers if frame.kind == Kind.DATA]
    assert sizes == [16_384, 16_384, 40_000 - 2 * 16_384]
    assert answers[-1].flags & frames.END_STREAM


def test_frames_are_as_large_as_the_client_takes_them() -> None:
    peer = Peer().greet(frames.settings({Setting.MAX_FRAME_SIZE: 50_000}))
    peer.ask(1, b"")
    answer(peer, 1, 40_000)
    assert peer.kinds() == [Kind.HEADERS, Kind.DATA, Kind.HEADERS]


def test_an_answer_waits_for_the_room_of_its_stream_and_of_the_connection() -> None:
    peer = Peer().greet()
    peer.ask(1, b"")
    answer(peer, 1, ROOM + 100)
    assert len(data_of(peer.answers(), 1)) == ROOM
    peer.connection.receive(widen(1, 100))
    assert data_of(peer.answers(), 1) == b""
    peer.connection.receive(widen(0, 60))
    assert len(data_of(peer.answers(), 1)) == 60
    peer.connection.receive(widen(0, 40))
    answers = peer.answers()
    assert len(data_of(answers, 1)) == 40
    assert answers[-1].kind == Kind.HEADERS
    assert not peer.connection.streams


def test_answers_that_wait_share_the_room() -> None:
    peer = Peer().greet(frames.settings({Setting.INITIAL_WINDOW_SIZE: 10**6}))
    for stream in (1, 3):
        peer.ask(stream, b"")
        answer(peer, stream, 10**6)
    peer.answers()
    peer.connection.receive(widen(0, 4 * 16_384))
    answers = peer.answers()
    assert len(data_of(answers, 1)) == len(data_of(answers, 3)) == 2 * 16_384


def test_a_client_may_change_its_mind_about_the_room_of_all_streams() -> None:
    peer = Peer().greet(frames.settings({Setting.INITIAL_WINDOW_SIZE: 0}))
    peer.ask(1, b"")
    answer(peer, 1, 100)
    assert peer.kinds() == [Kind.HEADERS]
    peer.connection.receive(frames.settings({Setting.INITIAL_WINDOW_SIZE: 60}))
    assert len(data_of(peer.answers(), 1)) == 60
    peer.connection.receive(frames.settings({Setting.INITIAL_WINDOW_SIZE: 10}))
    peer.connection.receive(widen(1, 60))
    assert len(data_of(peer.answers(), 1)) == 10


def test_room_that_overflows_resets_its_stream() -> None:
    peer = Peer().greet()
    peer.begin(1)
    peer.connection.receive(widen(1, frames.MAX_WINDOW))
    assert peer.reset_with() == [(1, Fault.FLOW_CONTROL_ERROR)]


def test_nothing_is_written_beyond_what_the_transport_takes() -> None:
    peer = Peer().greet()
    peer.ask(1, b"")
    peer.connection.sender.paused = True
    answer(peer, 1, 1000)
    assert peer.kinds() == [Kind.HEADERS]
    peer.connection.sender.paused = False
    peer.connection.sender.pump()
    assert peer.kinds() == [Kind.DATA, Kind.HEADERS]


def test_who_writes_is_told_when_what_waited_has_left() -> None:
    peer = Peer().greet()
    peer.ask(1, b"")
    peer.connection.sender.send(peer.streams[1], OK, bytes(ROOM + 1))
    assert ("drained", 1) not in peer.log
    peer.connection.receive(widen(0, 1) + widen(1, 1))
    assert peer.log[-1] == ("drained", 1)


def test_an_answer_before_the_end_of_its_request_lets_the_client_stop() -> None:
    peer = Peer().greet()
    peer.begin(1)
    answer(peer, 1, 10)
    assert peer.reset_with() == [(1, Fault.NO_ERROR)]
    # Together with the end: apart from it, it would be for a stream that is closed.
    assert [frame.kind for frame in parsed(peer.writes[-1])][-2:] == [Kind.HEADERS, Kind.RST_STREAM]


def test_a_client_that_sends_more_than_it_was_granted_is_stopped() -> None:
    peer = Peer().greet()
    peer.begin(1)
    for _ in range(4):
        peer.send(Kind.DATA, 0, 1, bytes(16_384))
    assert peer.reset_with() == [(1, Fault.FLOW_CONTROL_ERROR)]


def test_what_is_read_is_granted_again() -> None:
    peer = Peer().greet()
    peer.begin(1)
    peer.send(Kind.DATA, 0, 1, bytes(16_384))
    peer.connection.credit.give_back(peer.streams[1], 16_384)
    assert granted(peer.answers(), 1) == 0  # not worth a frame yet
    peer.send(Kind.DATA, 0, 1, bytes(16_384))
    peer.connection.credit.give_back(peer.streams[1], 16_384)
    assert granted(peer.answers(), 1) == 2 * 16_384


def test_padding_is_granted_again_at_once() -> None:
    peer = Peer().greet()
    peer.begin(1)
    padded = b"\xff" + bytes(1 + 255)
    for _ in range(1000):
        peer.send(Kind.DATA, frames.PADDED, 1, padded)
        peer.connection.credit.give_back(peer.streams[1], 1)
    assert peer.reset_with() == []


def test_the_connection_is_granted_so_much_that_streams_alone_count() -> None:
    peer = Peer()
    peer.connection.receive(frames.PREFACE + frames.settings({}))
    assert granted(peer.answers(), 0) == frames.MAX_WINDOW - ROOM


def test_a_large_message_is_granted_in_one_piece() -> None:
    peer = Peer().greet()
    peer.begin(1)
    peer.connection.credit.want(peer.streams[1], 3_000_000)
    assert granted(peer.answers(), 1) == 3_000_000 - ROOM


def test_large_messages_beyond_the_budget_come_one_after_the_other() -> None:
    peer = Peer(Terms(advance=1_000_000)).greet()
    for stream in (1, 3, 5):
        peer.begin(stream)
        peer.connection.credit.want(peer.streams[stream], 900_000)
    answers = peer.answers()
    assert [granted(answers, stream) > 0 for stream in (1, 3, 5)] == [True, False, False]
    peer.connection.credit.give_back(peer.streams[1], 900_000)
    assert granted(peer.answers(), 3) == 900_000 - ROOM
    peer.send(Kind.RST_STREAM, 0, 3, bytes(4))
    assert granted(peer.answers(), 5) == 900_000 - ROOM


def test_a_message_larger_than_the_budget_comes_through_alone() -> None:
    peer = Peer(Terms(advance=1000)).greet()
    peer.begin(1)
    peer.connection.credit.want(peer.streams[1], 900_000)
    assert granted(peer.answers(), 1) == 900_000 - ROOM
