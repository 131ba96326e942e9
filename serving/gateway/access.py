"""One line of the log for each request, alike for both protocols; written where it is verbose."""

import json
import logging
import time
from contextvars import ContextVar
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from serving.errors import Code
from serving.gateway import sockets
from serving.gateway.errors import HTTP_STATUS

LOGGER: Final = logging.getLogger("penstock.access")
# Of an error: it may quote what the client sent.
_MAX_ERROR: Final = 1024
# The name of the API key that a request came with; "" where none was asked for.
CALLER: Final[ContextVar[str]] = ContextVar("caller", default="")


@dataclass(slots=True)
class Access:
    """A request under way: its clock runs from the first moment to `log`.

    `status` is the protocol's own: a number over HTTP, a name over gRPC; until there is an answer,
    the one for a client that has gone. `model` is empty where the call concerns none, and
    `error` is what the caller was told where that is an error. `peer` is where the call came from,
    `address:port`, or as gRPC names it; empty where that is not known.
    """

    protocol: str
    call: str
    status: int | str
    model: str = ""
    error: str = ""
    began: int = field(default_factory=time.monotonic_ns)
    peer: str = ""

    def log(self) -> None:
        """Write the line, if anybody reads it: a text, and its parts for the JSON format."""
        if not is_logged():
            return
        caller, error = CALLER.get(), self.error[:_MAX_ERROR]
        # gRPC puts the family before the address, and grpcio escapes the brackets of IPv6.
        peer = self.peer.removeprefix("ipv4:").removeprefix("ipv6:")
        peer = peer.replace("%5B", "[").replace("%5D", "]")
        milliseconds = (time.monotonic_ns() - self.began) / 1e6
        LOGGER.info(
            "%s %s %s in %.3f ms%s%s%s",
            self.protocol,
            self.call,
            self.status,
            milliseconds,
            f" from {peer}" if peer else "",
            f" for {caller}" if caller else "",
            # In one line, whatever it quotes.
            ": " + error.replace("\n", "\\n") if error else "",
            extra={
                "protocol": self.protocol,
                "call": self.call,
                "model": self.model,
                "peer": peer,
                "caller": caller,
                "status": self.status,
                "duration_ms": round(milliseconds, 3),
                "error": error,
            },
        )


def is_logged() -> bool:
    """Whether requests leave lines in the log now."""
    return LOGGER.isEnabledFor(logging.INFO)


def logged(app: ASGIApp) -> ASGIApp:
    """`app`, with a line for each request while the log is verbose."""

    async def respond(scope: Scope, receive: Receive, send: Send) -> None:
        if not is_logged():
            await app(scope, receive, send)
            return
        # As it came: unescaped, it could hold the end of a line and a line after that.
        call = f"{scope['method']} {scope['raw_path'].decode()}"
        peer = sockets.joined(*scope["client"]) if scope["client"] else ""
        access = Access("http", call, HTTP_STATUS[Code.CANCELLED], peer=peer)

        async def watch(message: Message) -> None:
            if message["type"] == "http.response.start":
                access.status = message["status"]
            elif int(access.status) >= HTTPStatus.BAD_REQUEST:
                access.error = access.error or _told(message.get("body", b""))
            await send(message)

        try:
            await app(scope, receive, watch)
        finally:
            # The router leaves what it found in the path here.
            access.model = scope.get("path_params", {}).get("model", "")
            access.log()

    return respond


def _told(body: bytes) -> str:
    """What an answer that is an error says; "" where it says nothing in our form."""
    try:
        return str(json.loads(body)["error"])
    except (ValueError, LookupError, TypeError):
        return ""
