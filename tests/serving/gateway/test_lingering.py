"""A connection that has been answered ends, whatever its client does."""

import asyncio
from contextlib import suppress

import pytest

from serving.gateway import lingering
from serving.gateway.lingering import Lingering


class Answered(asyncio.Protocol):
    """Answers whoever connects, and lingers; `lost` once that is over."""

    def __init__(self) -> None:
        self.lost = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.write(b"answer")
        Lingering(self, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set()


async def connected() -> tuple[Answered, asyncio.StreamReader, asyncio.StreamWriter]:
    made = Answered()
    server = await asyncio.get_running_loop().create_server(lambda: made, "127.0.0.1")
    streams = await asyncio.open_connection(*server.sockets[0].getsockname())
    server.close()
    return made, *streams


async def test_a_client_that_still_sends_reads_its_answer_to_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lingering, "_SECONDS", 3600.0)
    connection, reader, writer = await connected()
    for _ in range(64):
        writer.write(bytes(64 * 1024))
        await writer.drain()
    assert await reader.read() == b"answer"
    assert not connection.lost.is_set()
    writer.close()
    await connection.lost.wait()


async def test_a_client_that_neither_sends_nor_goes_is_cut_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lingering, "_SECONDS", 0.01)
    connection, reader, writer = await connected()
    assert await reader.read() == b"answer"
    await connection.lost.wait()
    writer.close()


async def test_a_client_that_does_not_stop_sending_is_cut_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(lingering, "_SECONDS", 3600.0)
    monkeypatch.setattr(lingering, "_BYTES", 1024 * 1024)
    connection, _, writer = await connected()
    with suppress(ConnectionError):
        while not connection.lost.is_set():
            writer.write(bytes(64 * 1024))
            await writer.drain()
    writer.transport.abort()
