"""One HTTP request to the application without a network, so that a test decides every message."""

import asyncio
import json
from collections.abc import MutableMapping
from typing import Any

from fastapi import FastAPI

from serving.gateway.app import create_app
from serving.gateway.extensions import Extensions
from serving.gateway.lifecycle import Lifecycle
from serving.logs import Logs
from serving.settings import Settings
from tests.serving.gateway.scripted import ScriptedEngine

Message = MutableMapping[str, Any]


def application(engine: ScriptedEngine) -> FastAPI:
    """Our REST application over `engine`."""
    settings = Settings()
    return create_app(engine, Lifecycle(engine), settings, Extensions.of(settings, Logs(settings)))


class Exchange:
    """A POST of JSON under way: what comes back is read piece by piece; `leave` hangs up."""

    def __init__(self, engine: ScriptedEngine, path: str, document: Any) -> None:
        self._body = json.dumps(document).encode()
        self._incoming: asyncio.Queue[Message] = asyncio.Queue()
        self._incoming.put_nowait({"type": "http.request", "body": self._body})
        self._outgoing: asyncio.Queue[Message] = asyncio.Queue(1)
        self._running = asyncio.create_task(self._run(application(engine), path))

    async def _run(self, app: FastAPI, path: str) -> None:
        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.4"},
            "http_version": "1.1",
            "method": "POST",
            "scheme": "http",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": [(b"content-length", str(len(self._body)).encode())],
            "server": ("test", 80),
            "client": ("test", 1),
        }
        await app(scope, self._incoming.get, self._outgoing.put)

    async def start(self) -> tuple[int, str]:
        """Status and content type, once the answer has begun."""
        message = await self._outgoing.get()
        headers = dict(message["headers"])
        return message["status"], headers[b"content-type"].decode()

    async def piece(self) -> bytes:
        """The next piece of the body, b"" at its end."""
        message = await self._outgoing.get()
        return bytes(message["body"])

    async def rest(self) -> list[bytes]:
        """All pieces up to the end."""
        pieces = []
        more = True
        while more:
            message = await self._outgoing.get()
            pieces.append(bytes(message["body"]))
            more = message.get("more_body", False)
        await self._running
        return [piece for piece in pieces if piece]

    def leave(self) -> None:
        """The client closes its connection."""
        self._incoming.put_nowait({"type": "http.disconnect"})

    async def finish(self) -> None:
        """Until the application is done, whatever it still sends."""
        while not self._running.done():
            sent = asyncio.create_task(self._outgoing.get())
            await asyncio.wait((sent, self._running), return_when=asyncio.FIRST_COMPLETED)
            sent.cancel()
        await self._running
