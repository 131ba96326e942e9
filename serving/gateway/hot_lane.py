"""The hot lane: plain infer requests are answered before there is any ASGI task for them.

What a request passes on its way through a framework costs several times its inference. So this
protocol looks at each head itself, and what is an infer request and nothing else goes from the
parser to the engine; whatever asks for more goes the whole way. Both ways end in the same
`Inference`.
"""

import asyncio
import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from serving.errors import Code, ServingError
from serving.gateway import answers
from serving.gateway.answers import Answer
from serving.gateway.authorisation import Authorisation
from serving.gateway.inference import Inference
from serving.restrictions import Group
from serving.wire.rest import HEADER_LENGTH

logger = logging.getLogger("penstock.rest")

# Without escapes, queries and fragments: who sends those is in no hurry.
_TARGET: Final = re.compile(rb"/v2/models/([\w.+-]+)(?:/versions/([\w.+-]+))?/infer", re.ASCII)
_HEADER_LENGTH: Final = HEADER_LENGTH.lower().encode()
# What these ask for, the framework does.
_ELSEWHERE: Final = frozenset({b"content-encoding", b"transfer-encoding", b"expect", b"upgrade"})


@dataclass(frozen=True, slots=True)
class Lane:
    """What the lane of one port needs: how to answer whom, bodies of up to `limit` bytes, and when.

    While `is_open` says no, since somebody watches the framework's way, all requests go there; so
    do those that `authorisation` refuses.
    """

    infer: Inference
    statuses: Mapping[Code, int]
    limit: int
    authorisation: Authorisation
    is_open: Callable[[], bool]


class _Ignored:
    """Stands where uvicorn wakes up who waits for more of a request: here nobody does."""

    def set(self) -> None:
        pass


class _Call:
    """A request in the lane; its public attributes are those of uvicorn's own requests."""

    __slots__ = (
        "accepted",
        "chunks",
        "disconnected",
        "header_length",
        "keep_alive",
        "message_event",
        "model",
        "response_complete",
        "task",
        "version",
    )

    def __init__(self, model: bytes, version: bytes | None, headers: dict[bytes, bytes]) -> None:
        self.model = model.decode()
        self.version = (version or b"").decode()
        length = headers.get(_HEADER_LENGTH)
        self.header_length = None if length is None else length.decode("latin-1")
        self.accepted = headers.get(b"accept-encoding", b"").decode("latin-1")
        self.chunks: list[bytes] = []
        self.task: asyncio.Task[None] | None = None
        self.keep_alive = True
        self.disconnected = False
        self.response_complete = False
        self.message_event = _IGNORED

    def take_content(self) -> bytes:
        """The body; what is kept of it here would stay until the connection's next request."""
        chunks, self.chunks = self.chunks, []
        return chunks[0] if len(chunks) == 1 else b"".join(chunks)


_IGNORED: Final = _Ignored()


class HotLane(HttpToolsProtocol):
    """uvicorn's protocol for one connection, with the lane beside it."""

    def __init__(self, lane: Lane, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._lane = lane
        # The request whose body comes now, and the one that is to be answered. Others may follow it
        # on the connection: they wait, as uvicorn has it.
        self._incoming: _Call | None = None
        self._call: _Call | None = None

    def on_headers_complete(self) -> None:
        """Choose the way."""
        call = self._in_lane()
        if call is None:
            super().on_headers_complete()
        else:
            self._incoming = self._call = call
            self.cycle = call  # type: ignore[assignment]

    def _in_lane(self) -> _Call | None:
        """The request, if the lane is for it."""
        lane = self._lane
        found = _TARGET.fullmatch(self.url)
        if found is None or self.parser.get_method() != b"POST" or not lane.is_open():
            return None
        is_busy = self.cycle is not None and not self.cycle.response_complete
        if is_busy or self.limit_concurrency is not None:
            return None
        headers = dict(self.headers)
        size = headers.get(b"content-length", b"")
        if not size.isdigit() or int(size) > lane.limit or not _ELSEWHERE.isdisjoint(headers):
            return None
        if self.parser.get_http_version() != "1.1" or not self.parser.should_keep_alive():
            return None
        return _Call(found[1], found[2], headers) if self._is_allowed() else None

    def _is_allowed(self) -> bool:
        authorisation = self._lane.authorisation
        if not authorisation.is_on:
            return True
        try:
            authorisation.check(Group.INFERENCE, self.headers)
        except ServingError:
            return False
        return True

    def on_body(self, body: bytes) -> None:
        """Keep what has come of the body."""
        if self._incoming is None:
            super().on_body(body)
        else:
            self._incoming.chunks.append(body)

    def on_message_complete(self) -> None:
        """Answer."""
        call, self._incoming = self._incoming, None
        if call is None:
            super().on_message_complete()
            return
        call.task = self.loop.create_task(self._answer(call))
        self.tasks.add(call.task)
        call.task.add_done_callback(self.tasks.discard)

    def connection_lost(self, exc: Exception | None) -> None:
        """Have no work done for a client that has gone."""
        super().connection_lost(exc)
        call = self._call
        if call is not None:
            call.disconnected = True
            if call.task is not None:
                call.task.cancel()

    async def _answer(self, call: _Call) -> None:
        lane = self._lane
        try:
            answer = await lane.infer(
                call.model, call.version, call.take_content(), call.header_length, call.accepted
            )
        except ServingError as error:
            answer = answers.of_error(error, lane.statuses)
        except asyncio.CancelledError:
            self.transport.abort()
            raise
        except Exception as error:
            logger.error("POST %s failed", call.model, exc_info=error)
            answer = answers.BUG
        if self.flow.write_paused:
            await self.flow.drain()
        if not call.disconnected:
            self._send(call, answer)

    def _send(self, call: _Call, answer: Answer) -> None:
        lines = [STATUS_LINE[answer.status]]
        for name, value in self.server_state.default_headers:
            lines += (name, b": ", value, b"\r\n")
        for key, text in answer.headers.items():
            lines.append(f"{key.lower()}: {text}\r\n".encode("latin-1"))
        if not call.keep_alive:
            lines.append(b"connection: close\r\n")
        lines.append(
            b"content-length: %d\r\ncontent-type: %s\r\n\r\n"
            % (len(answer.content), answer.media_type.encode())
        )
        lines.append(answer.content)
        self.transport.write(b"".join(lines))
        call.response_complete = True
        self._call = None
        if not call.keep_alive:
            self.transport.close()
        self.on_response_complete()
