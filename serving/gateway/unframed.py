"""Answers of unknown length to clients of HTTP/1.0, which know no chunks: they end by closing."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle


def until_closed(app: ASGIApp, cycle: RequestResponseCycle) -> ASGIApp:
    """`app`, whose answer in `cycle` ends with its connection if it does not tell its length."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        is_unframed = False

        async def write(message: Message) -> None:
            nonlocal is_unframed
            if message["type"] == "http.response.start":
                names = [name.lower() for name, _ in message["headers"]]
                if b"content-length" not in names:
                    is_unframed = True
                    cycle.chunked_encoding = cycle.keep_alive = False
                    kept = [field for field in cycle.default_headers if field[0] != b"connection"]
                    cycle.default_headers = kept
            elif is_unframed:
                # uvicorn takes no more than it was told of.
                cycle.expected_content_length = len(message["body"])
            await send(message)

        await app(scope, receive, write)

    return answer
