"""How a connection ends: all that was begun is answered, and nothing new begins."""

from serving.http2 import frames
from serving.http2.frames import Fault, Kind
from tests.serving.http2.peer import Peer


def announced(peer: Peer) -> bytes:
    """The ping of a goodbye, which the client is to answer once it has heard."""
    peer.connection.announce_end()
    goaway, ping = peer.answers()
    assert int.from_bytes(goaway.payload[:4]) == frames.STREAM_MASK
    return ping.payload


def test_until_the_client_has_heard_the_goodbye_its_requests_are_answered() -> None:
    peer = Peer().greet()
    heard = announced(peer)
    peer.ask(1, b"")
    peer.send(Kind.PING, frames.ACK, 0, heard)
    peer.connection.sender.send(peer.streams[1], trailers=b"\x88")
    goaway, _ = peer.answers()
    assert (goaway.kind, int.from_bytes(goaway.payload[:4])) == (Kind.GOAWAY, 1)
    assert peer.over == 1


def test_settings_are_the_first_that_a_client_hears_even_if_it_has_not_greeted() -> None:
    peer = Peer()
    peer.connection.farewell(Fault.PROTOCOL_ERROR, "no HTTP/2")
    assert peer.kinds() == [Kind.SETTINGS, Kind.WINDOW_UPDATE, Kind.GOAWAY]


def test_a_request_behind_the_goodbye_is_refused() -> None:
    peer = Peer().greet()
    peer.begin(1)
    peer.send(Kind.PING, frames.ACK, 0, announced(peer))
    peer.begin(3)
    assert peer.reset_with() == [(3, Fault.REFUSED_STREAM)]
    assert [entry[1] for entry in peer.log] == [1]


def test_a_connection_without_requests_is_over_at_once() -> None:
    peer = Peer().greet()
    peer.send(Kind.PING, frames.ACK, 0, announced(peer))
    assert peer.over == 1


def test_a_connection_is_over_as_well_when_the_last_request_is_given_up() -> None:
    peer = Peer().greet()
    peer.begin(1)
    peer.connection.refuse()
    assert peer.over == 0
    peer.send(Kind.RST_STREAM, 0, 1, bytes(4))
    assert peer.over == 1


def test_a_client_that_says_goodbye_is_still_answered() -> None:
    peer = Peer().greet()
    peer.begin(1)
    peer.send(Kind.GOAWAY, 0, 0, bytes(8))
    peer.send(Kind.DATA, frames.END_STREAM, 1, b"abc")
    assert peer.log[-1] == ("received", 1, b"abc", True)


def test_the_last_word_says_why() -> None:
    peer = Peer().greet()
    peer.begin(1)
    peer.connection.farewell(Fault.ENHANCE_YOUR_CALM, "too_many_pings")
    [goaway] = peer.answers()
    assert goaway.payload == b"\0\0\0\1" + b"\0\0\0\x0b" + b"too_many_pings"
