"""A connection from one client: the frames that come, in order, become calls of what answers them.

`receive` raises ConnectionFault where the client broke the rules: then `farewell` says so, and the
connection is to be closed. What concerns one stream only resets that stream.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, Final, Generic, Protocol, TypeVar

from serving.http2 import frames
from serving.http2.credit import Credit
from serving.http2.frames import ConnectionFault, Fault, Kind, Setting
from serving.http2.headers import HeaderReader
from serving.http2.patience import Patience, PingPolicy
from serving.http2.reader import MAX_BLOCK, MAX_FRAME, FrameReader
from serving.http2.sender import Sender
from serving.http2.stream import Stream
from serving.http2.tables import Tables

H = TypeVar("H")
H_contra = TypeVar("H_contra", contravariant=True)

# What our own pings carry: is the peer there, and has it heard the goodbye?
_ALIVE: Final = b"penstock"
_GOODBYE: Final = b"farewell"
_ACKNOWLEDGED: Final = frames.frame(Kind.SETTINGS, frames.ACK, 0)
# Of so many streams that were reset, what the client sent before it heard of that is passed over.
_MAX_CUT: Final = 1024


class Calls(Protocol[H_contra]):
    """What finds an answer; it must not raise."""

    def opened(self, stream: Stream, request: H_contra) -> None:
        """A request has begun, whose `stream.call` is to be set; data follows unless it has ended.

        It may be answered, or reset, at once and without a call.
        """


@dataclass(frozen=True, slots=True)
class Terms:
    """What a client may do; `advance` bytes of large messages may be on their way at a time."""

    max_streams: int = 1024
    advance: int = 64 * 1024 * 1024
    pings: PingPolicy = field(default_factory=PingPolicy)


@lru_cache(maxsize=8)
def _hello(max_streams: int) -> bytes:
    """What every connection begins with."""
    values = {
        Setting.MAX_CONCURRENT_STREAMS: max_streams,
        Setting.MAX_FRAME_SIZE: MAX_FRAME,
        Setting.MAX_HEADER_LIST_SIZE: MAX_BLOCK,
    }
    return frames.settings(values) + Credit.opening()


class Connection(Generic[H]):
    """The state of one connection, which says nothing before the client does.

    `tables` make requests of blocks of headers, `write` takes bytes for the socket, `clock` gives
    seconds, `over` is called once no new request is welcome and none is under way.
    """

    def __init__(
        self,
        calls: Calls[H],
        tables: Tables[H],
        write: Callable[[bytes], object],
        clock: Callable[[], float],
        terms: Terms,
        over: Callable[[], object],
    ) -> None:
        self.streams: dict[int, Stream] = {}
        self._calls = calls
        self._write = write
        self._terms = terms
        self._over = over
        self._headers = HeaderReader(tables)
        self._patience = Patience(terms.pings, clock)
        self.sender = Sender(write, self._forget, self._was_cut, self._patience)
        self.credit = Credit(write, terms.advance)
        self._reader = FrameReader(self)
        # Take what the client has sent.
        self.receive: Final[Callable[[bytes], None]] = self._reader.receive
        self._last = 0
        # The streams that were reset, the oldest first.
        self._cut: dict[int, None] = {}
        self._refusing = False
        # The DATA frame that is coming: of which stream, and whether it ends that.
        self._data: Stream | None = None
        self._data_ends = False
        # What the client has to know first, until it is told.
        self._hello = _hello(terms.max_streams)

    @property
    def is_greeted(self) -> bool:
        """Whether the client has said that it speaks HTTP/2."""
        return self._reader.is_greeted

    def ask_alive(self) -> None:
        """Send a ping; whatever comes then, the answer or another frame, proves the peer there."""
        self._say(frames.frame(Kind.PING, 0, 0, _ALIVE))

    def announce_end(self) -> None:
        """Ask for no new requests; `refuse` follows by itself once the client has heard of it."""
        if self._refusing:
            return
        self._say(
            frames.goaway(frames.STREAM_MASK, Fault.NO_ERROR)
            + frames.frame(Kind.PING, 0, 0, _GOODBYE)
        )

    def refuse(self) -> None:
        """Take no new request from now on; those under way are answered."""
        if not self._refusing:
            self._refusing = True
            self._say(frames.goaway(self._last, Fault.NO_ERROR))
            if not self.streams:
                self._over()

    def farewell(self, fault: Fault, message: str) -> None:
        """Say why the connection ends now."""
        self._say(frames.goaway(self._last, fault, message))

    def reset(self, stream: Stream, fault: Fault) -> None:
        """End a stream without a response, or in the middle of one."""
        if self.streams.get(stream.id) is stream:
            self._cut_off(stream.id, fault)
            self._forget(stream)

    # Of the reader

    def take_headers(self, flags: int, number: int, block: bytes) -> None:
        """Begin a request, or end one by trailers."""
        # Whatever becomes of it: later blocks build on this one.
        request = self._headers.read(block)
        ends = flags & frames.END_STREAM != 0
        if number <= self._last or not number & 1:
            self._take_trailers(number, ends)
            return
        self._last = number
        if self._refusing or len(self.streams) >= self._terms.max_streams:
            self._fail(number, Fault.REFUSED_STREAM)
            return
        stream = Stream(number, frames.DEFAULT_WINDOW, self.sender.initial_room, ends)
        self.streams[number] = stream
        self._calls.opened(stream, request)

    def take_data(self, flags: int, number: int, data: bytes) -> None:
        """Hand data on that has come in one piece."""
        stream = self.streams.get(number)
        size = len(data)
        if stream is None or stream.ended or not 0 < size <= stream.credit:
            self.begin_data(flags, number, size, 0)
            self.take_part(memoryview(data), True)
            return
        self.credit.spend(size)
        stream.credit -= size
        self._hand_on(stream, data, flags & frames.END_STREAM != 0)

    def take_window(self, number: int, increment: int) -> None:
        """Go on with what waited for room."""
        self._patience.idle()
        stream = self.streams.get(number)
        if not number:
            if not increment:
                raise ConnectionFault(Fault.PROTOCOL_ERROR, "a WINDOW_UPDATE of nothing")
            self.sender.enlarge(increment)
        elif stream is None:
            self._check_known(number, Kind.WINDOW_UPDATE)
        elif not increment:
            self._fail(number, Fault.PROTOCOL_ERROR)
        elif not self.sender.enlarge_stream(stream, increment):
            self._fail(number, Fault.FLOW_CONTROL_ERROR)

    def begin_data(self, flags: int, number: int, size: int, padding: int) -> None:
        """Find out whose data it is, and whether it may come."""
        self.credit.spend(size)
        self._data, self._data_ends = None, bool(flags & frames.END_STREAM)
        stream = self.streams.get(number)
        if not size:
            self._patience.idle()
        if stream is None or stream.ended:
            self._check_known(number, Kind.DATA)
            self._pass_over_or_fail(number)
        elif size > stream.credit:
            self._fail(number, Fault.FLOW_CONTROL_ERROR)
        else:
            stream.credit -= size
            self._data = stream
            if padding:
                self.credit.give_back(stream, padding)

    def take_part(self, data: memoryview, is_last: bool) -> None:
        """Hand on what has come of it, if its stream is still open."""
        stream = self._data
        if stream is not None and self.streams.get(stream.id) is stream:
            self._hand_on(stream, data, is_last and self._data_ends)

    def take(self, kind: int, flags: int, number: int, payload: bytes) -> None:
        """Do what a frame asks for."""
        handle = _HANDLERS.get(kind)
        if handle is None:
            self._patience.idle()  # of an extension that we do not know
        else:
            handle(self, flags, number, payload)

    def _say(self, content: bytes) -> None:
        """Write what may be the first that the client hears."""
        if self._hello:
            content, self._hello = self._hello + content, b""
        self._write(content)

    def _hand_on(self, stream: Stream, data: bytes | memoryview, ends: bool) -> None:
        if stream.expected is not None:
            stream.expected -= len(data)
            if stream.expected < 0 or (ends and stream.expected):
                self._fail(stream.id, Fault.PROTOCOL_ERROR)
                return
        stream.ended = ends
        if stream.call is not None:
            stream.call.receive(data)

    def _take_trailers(self, number: int, ends: bool) -> None:
        if not number % 2:
            raise ConnectionFault(Fault.PROTOCOL_ERROR, "a request on a stream of the server's")
        stream = self.streams.get(number)
        if stream is None and number not in self._cut:
            raise ConnectionFault(Fault.STREAM_CLOSED, "HEADERS on a stream that was closed")
        if stream is None or stream.ended:
            self._pass_over_or_fail(number)
        elif not ends:
            self._fail(number, Fault.PROTOCOL_ERROR)
        else:
            self._hand_on(stream, b"", True)

    def _on_priority(self, _: int, number: int, payload: bytes) -> None:
        self._patience.idle()
        if not number:
            raise ConnectionFault(Fault.PROTOCOL_ERROR, "PRIORITY without a stream")
        frames.check_priority(number, payload)

    def _on_reset(self, _: int, number: int, __: bytes) -> None:
        self._check_known(number, Kind.RST_STREAM)
        stream = self.streams.get(number)
        if stream is None:
            self._patience.idle()
            return
        self._give_up(stream)
        self._patience.reset()

    def _on_settings(self, flags: int, number: int, payload: bytes) -> None:
        if number:
            raise ConnectionFault(Fault.PROTOCOL_ERROR, "SETTINGS of a stream")
        if flags & frames.ACK:
            if payload:
                raise ConnectionFault(Fault.FRAME_SIZE_ERROR, "SETTINGS of a broken size")
            return
        self._patience.idle()
        for name, value in frames.read_settings(payload):
            # Each costs a look at all streams, and a frame may hold thousands.
            self._patience.idle()
            self.sender.set(name, value, self.streams.values())
        self._say(_ACKNOWLEDGED)
        self.sender.pump()

    def _on_push_promise(self, _: int, __: int, ___: bytes) -> None:
        raise ConnectionFault(Fault.PROTOCOL_ERROR, "PUSH_PROMISE from a client")

    def _on_ping(self, flags: int, number: int, payload: bytes) -> None:
        if number:
            raise ConnectionFault(Fault.PROTOCOL_ERROR, "PING of a stream")
        if not flags & frames.ACK:
            self._patience.ping(bool(self.streams))
            self._write(frames.frame(Kind.PING, frames.ACK, 0, payload))
        elif payload == _GOODBYE:
            self.refuse()

    def _on_goaway(self, _: int, number: int, payload: bytes) -> None:
        """The client will begin nothing new; what it has begun is answered."""
        self._patience.idle()
        if number:
            raise ConnectionFault(Fault.PROTOCOL_ERROR, "GOAWAY of a stream")
        if len(payload) < 8:
            raise ConnectionFault(Fault.FRAME_SIZE_ERROR, "GOAWAY of a broken size")

    def _check_known(self, number: int, kind: Kind) -> None:
        if not number or number > self._last:
            raise ConnectionFault(Fault.PROTOCOL_ERROR, f"{kind.name} on a stream never opened")

    def _pass_over_or_fail(self, number: int) -> None:
        """Reset a stream that is closed, on which something came, but not once more.

        What was reset is not to be heard of again: some clients take it for a fault of the request
        that they have begun since.
        """
        if number in self._cut:
            self._patience.idle()
        else:
            self._fail(number, Fault.STREAM_CLOSED)

    def _cut_off(self, number: int, fault: Fault) -> None:
        self._write(frames.rst_stream(number, fault))
        self._remember(number)

    def _remember(self, number: int) -> None:
        self._cut[number] = None
        if len(self._cut) > _MAX_CUT:
            del self._cut[next(iter(self._cut))]

    def _fail(self, number: int, fault: Fault) -> None:
        """Reset a stream for what the client did to it."""
        self._patience.idle()
        self._cut_off(number, fault)
        stream = self.streams.get(number)
        if stream is not None:
            self._give_up(stream)

    def _was_cut(self, stream: Stream) -> None:
        """Its response has left before all of its request has come."""
        self._remember(stream.id)
        self._forget(stream)

    def _give_up(self, stream: Stream) -> None:
        """Nobody waits for its response any more."""
        call = stream.call
        self._forget(stream)
        if call is not None:
            call.cancel()

    def _forget(self, stream: Stream) -> None:
        self.streams.pop(stream.id, None)
        # Which knows the stream: both would stay until the garbage collector looks, and it would
        # look at those of a second at a time.
        stream.call = None
        if stream.pending:
            self.sender.forget(stream)
        if stream.advance or self.credit.wanting:
            self.credit.forget(stream)
        if self._refusing and not self.streams:
            self._over()


_HANDLERS: Final[dict[int, Callable[[Connection[Any], int, int, bytes], None]]] = {
    Kind.PRIORITY: Connection._on_priority,
    Kind.RST_STREAM: Connection._on_reset,
    Kind.SETTINGS: Connection._on_settings,
    Kind.PUSH_PROMISE: Connection._on_push_promise,
    Kind.PING: Connection._on_ping,
    Kind.GOAWAY: Connection._on_goaway,
}
