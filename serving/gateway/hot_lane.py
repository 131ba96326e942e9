"""The hot lane: plain infer requests are answered before there is any ASGI task for them.

What a request passes on its way through a framework costs several times its inference. So this
protocol looks at each head itself, and what is an infer request and nothing else goes from the
parser to the engine; whatever asks for more goes the whole way. Both ways end in the same
`Inference`. A head that has come before is not parsed again.
"""

import asyncio
import contextlib
import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any, ClassVar, Final

from msgspec import Struct

from serving.errors import Code, InvalidArgument, ServingError
from serving.gateway import answers
from serving.gateway.answers import Answer
from serving.gateway.authorisation import Authorisation
from serving.gateway.connections import Connections, Guarded
from serving.gateway.heads import Head, Heads, Starts
from serving.gateway.inference import Inference
from serving.gateway.large_body import LargeBody
from serving.inflight import Inflight
from serving.restrictions import Group
from serving.wire.rest import HEADER_LENGTH, parse_header_length

logger = logging.getLogger("penstock.rest")

# Without escapes, queries and fragments: who sends those is in no hurry.
_TARGET: Final = re.compile(rb"/v2/models/([\w.+-]+)(?:/versions/([\w.+-]+))?/infer", re.ASCII)
_HEADER_LENGTH: Final = HEADER_LENGTH.lower().encode()
# With so much of a body still to come, to have it come to its place is worth the change.
_LARGE: Final = 64 * 1024
_STAYS: Final = "connection: keep-alive\r\n"
# What these ask for, the framework does.
_ELSEWHERE: Final = frozenset({b"content-encoding", b"transfer-encoding", b"expect", b"upgrade"})


@dataclass(frozen=True, slots=True)
class Lane:
    """What the lane of one port needs: how to answer whom, bodies of up to `limit` bytes, and when.

    While `is_open` says no, since somebody watches the framework's way, all requests go there; so
    do those that `authorisation` refuses, or for which `inflight` has no room.
    """

    infer: Inference
    statuses: Mapping[Code, int]
    limit: int
    authorisation: Authorisation
    is_open: Callable[[], bool]
    inflight: Inflight = field(default_factory=lambda: Inflight(0))
    heads: Heads = field(default_factory=Heads)
    starts: Starts = field(default_factory=Starts)

    def lets_in(self, fields: list[tuple[bytes, bytes]], size: int = 0) -> bool:
        """Whether a request with these headers and such a body may come in now."""
        if not self.is_open() or not self.inflight.admits(size):
            return False
        if not self.authorisation.is_on:
            return True
        try:
            self.authorisation.check(Group.INFERENCE, fields)
        except ServingError:
            return False
        return True


class _Ignored:
    """Stands where uvicorn wakes up who waits for more of a request: here nobody does."""

    def set(self) -> None:
        pass


class _Call(Struct, eq=False):
    """A request in the lane, of which so many bytes are `missing`, and `held` while it is there.

    What is not ours here are attributes of uvicorn's own requests.
    """

    head: Head
    missing: int
    held: int
    chunks: list[bytes | memoryview] = []
    task: asyncio.Task[None] | None = None
    keep_alive: bool = True
    disconnected: bool = False
    response_complete: bool = False
    message_event: ClassVar[_Ignored] = _Ignored()
    # While it is parsed, nothing in it can be malformed.
    more_body: ClassVar[bool] = False

    def add(self, chunk: bytes) -> None:
        """More of the body."""
        self.chunks.append(chunk)
        self.missing -= len(chunk)

    def take_content(self) -> bytes | memoryview:
        """The body; what is kept of it here would stay until the connection's next request."""
        chunks, self.chunks = self.chunks, []
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)


class HotLane(Guarded):
    """uvicorn's protocol for one connection, with the lane beside it."""

    def __init__(self, lane: Lane, others: Connections, *args: Any, **kwargs: Any) -> None:
        super().__init__(others, *args, **kwargs)
        self._lane = lane
        # The request whose body comes now, by the parser or past it, and the one that is to be
        # answered. Others may follow it on the connection: they wait, as uvicorn has it.
        self._incoming: _Call | None = None
        self._call: _Call | None = None
        self._is_past_parser = False
        self._is_parsing = False
        # What came together with the head that is parsed now, if that begins it.
        self._chunk: bytes | None = None

    def data_received(self, data: bytes) -> None:
        """Take what has come past the parser, if its head is known, or else parse it."""
        if self._is_past_parser:
            self._take_body(data)
            return
        if self._is_parsing:
            self._chunk = None
        else:
            found = self._lane.heads.find(data)
            if found is not None and self._lets_in(found[0]):
                self._pass(*found, data)
                return
            self._chunk = data
        super().data_received(data)

    def _lets_in(self, head: Head) -> bool:
        is_free = self._is_answered() and not self.transport.is_closing()
        return is_free and self._lane.lets_in(head.fields, head.size)

    def _pass(self, head: Head, start: int, data: bytes) -> None:
        """Begin with a request whose body begins at `start`, past the parser."""
        self._unset_keepalive_if_required()
        call = self._take(head)
        body = data[start:]
        if len(body) == head.size:  # most come whole
            call.add(body)
            self._go_to_start(call)
            return
        self._is_past_parser = True
        self._body_follows()
        self._take_body(body)

    def _take_body(self, data: bytes) -> None:
        call = self._incoming
        assert call is not None
        rest = data[call.missing :]
        call.add(data[: call.missing] if rest else data)
        if not call.missing:
            self._go_to_start(call)
            if rest:
                self.data_received(rest)
            return
        self._others.wait_for(self)
        if call.missing > _LARGE:
            self._take_large_body(call)

    def _take_large_body(self, call: _Call) -> None:
        """Have the rest of the body come to where it stays."""
        begun = b"".join(call.chunks)
        aligned = 0
        with contextlib.suppress(InvalidArgument):  # which is told when the body is there
            aligned = parse_header_length(call.head.header_length or "0", call.head.size)

        def done(content: memoryview) -> None:
            self.transport.set_protocol(self)
            call.chunks = [content]
            self._go_to_start(call)

        more = partial(self._others.wait_for, self)
        body = LargeBody(self, call.head.size, begun, aligned, more, done)
        self.transport.set_protocol(body)

    def _go_to_start(self, call: _Call) -> None:
        """The body is there, however it came."""
        self._is_past_parser = False
        self._incoming = None
        self._head_follows()
        self._start(call)

    def on_message_begin(self) -> None:
        """A request begins in the parser."""
        self._is_parsing = True
        super().on_message_begin()

    def begin_request(self) -> None:
        """Choose the way."""
        chunk, self._chunk = self._chunk, None
        head = self._head()
        if head is None:
            super().begin_request()
            return
        if chunk is not None:
            self._lane.heads.learn(chunk, head)
        self._take(head)

    def _take(self, head: Head) -> _Call:
        """Begin with a request; its body follows."""
        held = self._lane.inflight.take(head.size)
        self._incoming = self._call = call = _Call(head, head.size, held)
        self.cycle = call  # type: ignore[assignment]
        return call

    def _head(self) -> Head | None:
        """What the request says, if the lane is for it."""
        lane = self._lane
        found = _TARGET.fullmatch(self.url)
        if found is None or self.parser.get_method() != b"POST":
            return None
        if not self._is_answered() or self.limit_concurrency is not None:
            return None
        headers = dict(reversed(self.headers))  # as frameworks have it, the first of a name counts
        size = headers.get(b"content-length", b"")
        if not size.isdigit() or int(size) > lane.limit or not _ELSEWHERE.isdisjoint(headers):
            return None
        if not self.parser.should_keep_alive():
            return None
        if not lane.lets_in(self.headers, int(size)):
            return None
        length = headers.get(_HEADER_LENGTH)
        return Head(
            model=found[1].decode(),
            version=(found[2] or b"").decode(),
            size=int(size),
            header_length=None if length is None else length.decode("latin-1"),
            accepted=headers.get(b"accept-encoding", b"").decode("latin-1"),
            fields=self.headers,
            stays="" if self.parser.get_http_version() == "1.1" else _STAYS,
        )

    def on_body(self, body: bytes) -> None:
        """Keep what has come of the body."""
        if self._incoming is None:
            super().on_body(body)
        else:
            self._head_bytes = 0
            self._incoming.add(body)

    def on_message_complete(self) -> None:
        """Answer."""
        self._is_parsing = False
        if self._incoming is None:
            super().on_message_complete()
        else:
            self._go_to_start(self._incoming)

    def _start(self, call: _Call) -> None:
        call.task = self.loop.create_task(self._answer(call))
        self.tasks.add(call.task)
        if call.held:
            call.task.add_done_callback(lambda _: self._give_back(call))

    def _give_back(self, call: _Call) -> None:
        """Its body takes no room any more."""
        held, call.held = call.held, 0
        self._lane.inflight.give_back(held)

    def give_up(self) -> None:
        """Have no work done for answers that nobody will get."""
        super().give_up()
        call, self._call = self._call, None
        if call is not None:
            call.disconnected = True
            # What is cancelled keeps its frames, and these the call: with the task in it, the
            # request's tensors would stay until the garbage collector comes, which may be never.
            task, call.task = call.task, None
            if task is None:
                self._give_back(call)
            else:
                # It may not even have begun.
                task.add_done_callback(self.tasks.discard)
                task.cancel()

    async def _answer(self, call: _Call) -> None:
        lane, head = self._lane, call.head
        try:
            answer = await lane.infer(
                head.model, head.version, call.take_content(), head.header_length, head.accepted
            )
        except ServingError as error:
            answer = answers.of_error(error, lane.statuses)
        except asyncio.CancelledError:
            if not call.disconnected:
                self.transport.abort()
            raise
        except Exception as error:
            logger.error("POST %s failed", head.model, exc_info=error)
            answer = answers.BUG
        if self.flow.write_paused:
            await self.flow.drain()
        if call.task is not None:
            self.tasks.discard(call.task)
        if not call.disconnected:
            self._send(call, answer)

    def _send(self, call: _Call, answer: Answer) -> None:
        content, tensors = answer.content, answer.tensors
        size = len(content) + sum(map(len, tensors))
        lines = [f"{key.lower()}: {text}\r\n" for key, text in answer.headers.items()]
        if not call.keep_alive:
            lines.append("connection: close\r\n")
        else:
            lines.append(call.head.stays)
        lines.append(f"content-length: {size}\r\ncontent-type: {answer.media_type}\r\n\r\n")
        start = self._lane.starts.of(answer.status, self.server_state.default_headers)
        head = start + "".join(lines).encode("latin-1")
        if tensors or size > _LARGE:
            self.transport.writelines((head, content, *tensors))
        else:
            self.transport.write(head + content)
        call.response_complete = True
        self._call = None
        if not call.keep_alive:
            self.transport.close()
        self._go_on()

    def _go_on(self) -> None:
        """See to what follows the request that has just been answered."""
        if self.pipeline or self.flow.read_paused:
            self.on_response_complete()
        else:
            # No timer for each request: the others know who is idle, and for how long.
            self.server_state.total_requests += 1
            self._others.wait_for(self)
