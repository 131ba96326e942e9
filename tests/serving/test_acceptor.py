import asyncio
import contextlib
import resource
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trustme
import uvloop

from serving.acceptor import Acceptor

MANY = 200


class Counted(asyncio.Protocol):
    """Answers with what it is sent; `turn` of the loop is noted as it begins."""

    def __init__(self, begun: list["Counted"], turn: Callable[[], int]) -> None:
        self._begun, self._turn = begun, turn

    def connection_made(self, transport: Any) -> None:
        self.transport, self.began = transport, self._turn()
        self.ended = asyncio.Event()
        self._begun.append(self)

    def connection_lost(self, _: Exception | None) -> None:
        self.ended.set()

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


@asynccontextmanager
async def accepting(
    tls: ssl.SSLContext | None = None, turn: Callable[[], int] = lambda: 0
) -> AsyncIterator[tuple[Acceptor, int, list[Counted]]]:
    """An acceptor for the block, its port, and the protocols that it has begun."""
    begun: list[Counted] = []
    listener = socket.create_server(("127.0.0.1", 0), backlog=MANY)
    port = listener.getsockname()[1]
    acceptor = Acceptor(listener, lambda: Counted(begun, turn), tls)
    try:
        yield acceptor, port, begun
    finally:
        acceptor.close()
        for each in begun:
            each.transport.abort()
            await each.ended.wait()


def on_uvloop(main: Callable[[], object]) -> None:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())  # type: ignore[arg-type]


def test_connections_that_come_at_once_begin_within_a_few_turns_of_the_loop() -> None:
    async def main() -> None:
        turns = 0
        async with accepting(turn=lambda: turns) as (_, port, begun):
            with contextlib.ExitStack() as clients:
                for _ in range(MANY):
                    clients.enter_context(socket.create_connection(("127.0.0.1", port)))
                while len(begun) < MANY:
                    turns += 1
                    await asyncio.sleep(0)
        assert turns < 10

    on_uvloop(main)


def test_a_closed_acceptor_keeps_what_it_took_and_refuses_others() -> None:
    async def main() -> None:
        async with accepting() as (acceptor, port, _):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"here")
            assert await reader.readexactly(4) == b"here"
            acceptor.close()
            with pytest.raises(ConnectionRefusedError):
                await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"still here")
            assert await reader.readexactly(10) == b"still here"
            writer.close()

    on_uvloop(main)


def test_a_client_that_cannot_speak_tls_is_left_and_others_are_served() -> None:
    authority = trustme.CA()
    server, client = (
        ssl.create_default_context(ssl.Purpose.CLIENT_AUTH),
        ssl.create_default_context(),
    )
    authority.issue_cert("localhost").configure_cert(server)
    authority.configure_trust(client)

    async def main() -> None:
        async with accepting(server) as (_, port, _):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(b"GET / HTTP/1.1\r\n\r\n")
            with contextlib.suppress(ConnectionResetError):
                await reader.read()
            writer.close()
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", port, ssl=client, server_hostname="localhost"
            )
            writer.write(b"secret")
            assert await reader.readexactly(6) == b"secret"
            writer.close()

    on_uvloop(main)


def test_connections_beyond_the_open_files_wait_until_there_is_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("serving.acceptor._PAUSE", 0.01)

    async def main() -> None:
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        loop = asyncio.get_running_loop()
        async with accepting() as (_, port, begun):
            with socket.create_connection(("127.0.0.1", port)) as client:
                client.setblocking(False)
                resource.setrlimit(resource.RLIMIT_NOFILE, (client.fileno() + 1, hard))
                try:
                    for _ in range(20):
                        await asyncio.sleep(0)
                    assert not begun
                finally:
                    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
                await loop.sock_sendall(client, b"here")
                assert await loop.sock_recv(client, 4) == b"here"

    on_uvloop(main)
