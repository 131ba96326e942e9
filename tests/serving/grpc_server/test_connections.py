"""Connections of clients that do what they should not, or go; the server stays up for the rest."""

import asyncio
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import pytest

from serving.grpc_server.messages import PREFIX
from serving.grpc_server.policy import Policy
from serving.http2 import frames
from serving.http2.connection import Terms
from serving.http2.frames import Fault, Kind, Setting
from serving.inflight import Inflight
from tests.serving.grpc_server.serving import LIMIT, SERVICE, method, raw, running

HELLO = b"\0\0\0\0\5hello"


async def works(address: str) -> None:
    """Somebody else is answered."""
    async with grpc.aio.insecure_channel(address) as client:
        assert await method(client, "Echo")(b"a") == b"a"


@contextmanager
def nothing_logged(caplog: Any) -> Iterator[None]:
    yield
    assert [record.getMessage() for record in caplog.records if record.levelno >= 30] == []


async def test_what_is_not_http2_closes_its_connection(caplog: Any) -> None:
    async with running() as (_, _, address):
        host, port = address.split(":")
        with nothing_logged(caplog):
            for content in (b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x02\x00", bytes(1000)):
                reader, writer = await asyncio.open_connection(host, int(port))
                writer.write(content)
                assert (await reader.read())[-26:] == b"this port speaks HTTP/2 only"[-26:]
                writer.close()
        await works(address)


async def test_no_garbage_closes_more_than_its_connection(caplog: Any) -> None:
    chance = random.Random(7)
    async with running() as (_, _, address):
        for _ in range(200):
            async with raw(address) as client:
                client.head(1, "Echo")
                client.data(1, HELLO, ends=False)
                kind = chance.choice((*Kind, 77))
                size = chance.choice((0, 1, 4, 5, 8, 40))
                client.send(
                    kind, chance.randrange(256), chance.randrange(4), chance.randbytes(size)
                )
                client.writer.write(chance.randbytes(chance.randrange(60)))
                client.writer.write_eof()
                await client.ended()
        await works(address)
    assert "a gRPC connection failed" not in caplog.text


async def test_a_client_that_vanishes_amid_a_frame_leaves_nothing_behind() -> None:
    async with running() as (_, methods, address):
        async with raw(address) as client:
            client.head(1, "Hold", ends=False)
            client.data(1, HELLO)
            await methods.until(lambda: methods.begun == [b"hello"])
            client.writer.write(frames.frame(Kind.DATA, 0, 3, bytes(1000))[:500])
            client.writer.transport.abort()
        await methods.until(lambda: methods.ended == [b"hello"])
        await works(address)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({":method": "GET"}, "405"),
        ({"content-type": "text/plain"}, "415"),
        ({"content-type": "application/grpcs"}, "415"),
    ],
    ids=["a GET", "text", "nearly gRPC"],
)
async def test_a_request_that_is_not_grpc_gets_a_status_of_http(
    headers: dict[str, str], status: str
) -> None:
    async with running() as (_, _, address), raw(address) as client:
        fields = {
            ":method": "POST", ":scheme": "http", ":path": "/", "content-type": "application/grpc",
        } | headers  # fmt: skip
        block = client.encode(*fields.items())
        client.send(Kind.HEADERS, frames.END_HEADERS | frames.END_STREAM, 1, block)
        assert client.trailers(await client.until(Kind.HEADERS))[":status"] == status


WHOLE = {":method": "POST", ":scheme": "http", ":path": f"/{SERVICE}/Echo"}


@pytest.mark.parametrize(
    "fields",
    [
        (*WHOLE.items(), ("UPPER", "case")),
        (*WHOLE.items(), ("connection", "close")),
        (*WHOLE.items(), ("te", "gzip")),
        (*WHOLE.items(), ("a", "b\nc")),
        (*WHOLE.items(), ("content-length", "-1")),
        (*WHOLE.items(), (":path", "/again")),
        (*WHOLE.items(), (":other", "x")),
        (("a", "b"), *WHOLE.items()),
        tuple(WHOLE.items())[1:],
        (),
    ],
    ids=["upper case", "connection", "te", "line feed", "length", "two paths", "unknown",
         "late", "no method", "nothing"],
)  # fmt: skip
async def test_headers_that_http2_does_not_allow_reset_the_stream(fields: Any) -> None:
    async with running() as (_, _, address), raw(address) as client:
        flags = frames.END_HEADERS | frames.END_STREAM
        client.send(Kind.HEADERS, flags, 1, client.encode(*fields))
        reset = await client.until(Kind.RST_STREAM)
        assert int.from_bytes(reset.payload) == Fault.PROTOCOL_ERROR
        client.head(3, "Echo")
        client.data(3, HELLO)
        assert (await client.until(Kind.DATA)).payload == HELLO


@pytest.mark.parametrize(
    ("name", "headers", "data", "status"),
    [
        ("Echo", (), b"", "13"),
        ("Echo", (), HELLO[:-1], "13"),
        ("Echo", (), HELLO[:3], "13"),
        ("Echo", (), HELLO * 2, "13"),
        ("Echo", (), b"\1" + HELLO[1:], "13"),
        ("Echo", (), b"\7" + HELLO[1:], "13"),
        ("Echo", (("grpc-encoding", "gzip"),), b"\1" + HELLO[1:], "13"),
        ("Echo", (("grpc-encoding", "snappy"),), HELLO, "12"),
        ("Echo", (("grpc-timeout", "soon"),), HELLO, "13"),
        ("Echo", (("a-bin", "?"),), HELLO, "13"),
        ("Echo", (("grpc-timeout", "0n"),), HELLO, "4"),
        ("Echo", (("a", "b" * 66_000),), HELLO, "8"),
        ("Echo", (), b"\0\xff\xff\xff\xff", "8"),
        ("Each", (), HELLO[:-1], "13"),
        ("Join", (), b"\0\xff\xff\xff\xff", "8"),
        ("Other", (), HELLO, "12"),
    ],
    ids=[
        "no message", "half a message", "half a prefix", "two messages", "packed by nothing",
        "an unknown flag", "not gzip", "an unknown encoding", "a timeout that is none",
        "metadata not in base64", "no time at all", "too many metadata", "a size too large",
        "half a message of a stream", "a size too large on a stream", "no such method",
    ],
)  # fmt: skip
async def test_a_call_that_is_none_gets_a_status(
    name: str, headers: Any, data: bytes, status: str
) -> None:
    async with running() as (_, _, address), raw(address) as client:
        client.head(1, name, *headers)
        client.data(1, data)
        answer = client.trailers(await client.last(1))
        assert answer["grpc-status"] == status
        await works(address)


async def test_a_message_in_the_smallest_pieces_is_put_together() -> None:
    async with running() as (_, _, address), raw(address) as client:
        client.head(1, "Echo")
        for index in range(len(HELLO)):
            client.data(1, HELLO[index : index + 1], ends=index == len(HELLO) - 1)
        assert (await client.until(Kind.DATA)).payload == HELLO


async def test_a_client_without_a_window_is_waited_for_and_others_are_not_held_up() -> None:
    async with (
        running() as (_, _, address),
        raw(address, (Setting.INITIAL_WINDOW_SIZE, 0)) as client,
    ):
        client.head(1, "Echo")
        client.data(1, HELLO)
        await client.until(Kind.HEADERS)
        await works(address)
        client.send(Kind.WINDOW_UPDATE, 0, 1, len(HELLO).to_bytes(4))
        assert (await client.until(Kind.DATA)).payload == HELLO


async def test_a_client_that_does_not_read_makes_the_server_hold_only_so_much() -> None:
    window = (Setting.INITIAL_WINDOW_SIZE, 2**31 - 1)
    async with running() as (_, methods, address), raw(address, window) as client:
        client.send(Kind.WINDOW_UPDATE, 0, 0, (2**30).to_bytes(4))
        client.head(1, "Count")
        content = b"1000000 65536"
        client.data(1, b"\0" + len(content).to_bytes(4) + content)
        await client.until(Kind.DATA)
        await works(address)
        # More than the sockets of both sides hold, and far less than what was asked for.
        assert len(methods.begun) < 1000


async def test_pings_of_a_client_that_does_not_read_end_its_connection() -> None:
    async with running() as (server, _, address), raw(address) as client:
        for _ in range(10):
            client.send(Kind.PING, 0, 0, bytes(8))
        goaway = (await client.ended())[-1]
        assert goaway.kind == Kind.GOAWAY
        assert goaway.payload.endswith(b"too_many_pings")
        await works(address)
        assert server.policy.terms.pings.strikes == 2


async def test_rapid_resets_end_a_connection_and_all_that_ran_ends() -> None:
    async with running() as (_, methods, address), raw(address) as client:
        for stream in range(1, 4001, 2):
            client.head(stream, "Hold")
            client.data(stream, HELLO)
            client.send(Kind.RST_STREAM, 0, stream, bytes(4))
        goaway = (await client.ended())[-1]
        assert int.from_bytes(goaway.payload[4:8]) == Fault.ENHANCE_YOUR_CALM
        await works(address)
        assert sorted(methods.begun) == sorted(methods.ended)


async def test_uploads_that_are_announced_and_never_come_leave_room_for_others() -> None:
    async with running() as (_, _, address):
        async with raw(address) as client:
            for stream in range(1, 201, 2):
                client.head(stream, "Echo")
                client.data(stream, b"\0" + LIMIT.to_bytes(4), ends=False)
            granted = await client.until(Kind.WINDOW_UPDATE, 1)
            assert int.from_bytes(granted.payload) > LIMIT - 2**16
            client.head(201, "Echo")
            client.data(201, HELLO)
            assert (await client.until(Kind.DATA, 201)).payload == HELLO
        await works(address)


async def test_a_call_that_is_over_wants_no_further_message(caplog: Any) -> None:
    size = 4 * frames.DEFAULT_WINDOW
    policy = Policy(limit=LIMIT, terms=Terms(advance=size))
    async with (
        running(policy) as (_, _, address),
        raw(address, (Setting.INITIAL_WINDOW_SIZE, 0)) as client,
    ):
        with nothing_logged(caplog):
            client.head(1, "Group")
            client.data(1, HELLO, ends=False)
            await client.until(Kind.HEADERS, 1)
            client.data(1, PREFIX.pack(0, size), ends=False)
            # The task that writes can go on, and would read, but the call has been cancelled.
            client.writer.write(frames.window_update(1, 100) + frames.rst_stream(1, Fault.CANCEL))
            await works(address)
            client.head(3, "Echo")
            client.data(3, PREFIX.pack(0, size), ends=False)
            client.send(Kind.PING, 0, 0, bytes(8))
            granted = []
            while (frame := await client.frame()) is not None and frame.kind != Kind.PING:
                if frame.kind == Kind.WINDOW_UPDATE:
                    granted.append(frame.stream)
        assert granted == [3]


async def test_a_client_that_does_not_greet_is_not_waited_for() -> None:
    async with running(Policy(limit=LIMIT, patience=0.05)) as (_, _, address):
        host, port = address.split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        while await reader.read(1000):
            pass  # what the server has to say first
        writer.close()


async def test_a_connection_without_calls_is_closed_after_a_while() -> None:
    async with (
        running(Policy(limit=LIMIT, patience=0.05)) as (_, _, address),
        raw(address) as client,
    ):
        goaway = await client.until(Kind.GOAWAY)
        assert int.from_bytes(goaway.payload[4:8]) == Fault.NO_ERROR


async def test_a_connection_with_a_call_is_not() -> None:
    async with (
        running(Policy(limit=LIMIT, patience=0.05)) as (_, methods, address),
        raw(address) as client,
    ):
        client.head(1, "Hold")
        client.data(1, HELLO)
        await methods.until(lambda: methods.begun == [b"hello"])
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.until(Kind.GOAWAY), 0.3)
        methods.go.set()
        assert (await client.until(Kind.DATA)).payload == HELLO


@pytest.mark.parametrize(
    ("name", "begun"),
    [
        ("Echo", b""),
        ("Echo", b"\0"),
        ("Echo", PREFIX.pack(0, LIMIT)),
        ("Echo", HELLO),
        ("Converse", PREFIX.pack(0, LIMIT) + bytes(1000)),
        ("Converse", HELLO + b"\0"),
    ],
)
async def test_a_call_whose_request_stops_coming_is_ended_and_takes_no_room(
    name: str, begun: bytes
) -> None:
    inflight = Inflight(0)
    async with (
        running(Policy(limit=LIMIT, patience=0.05, inflight=inflight)) as (_, _, address),
        raw(address) as client,
    ):
        client.head(1, name)
        client.data(1, begun, ends=False)
        told = client.trailers(await client.last(1))
        assert told["grpc-status"] == str(grpc.StatusCode.CANCELLED.value[0])
        assert inflight.held == 0
        await client.until(Kind.GOAWAY)


async def test_a_call_that_begins_when_its_connection_is_to_end_is_not_waited_for_either() -> None:
    inflight = Inflight(0)
    async with (
        running(Policy(limit=LIMIT, patience=0.05, inflight=inflight)) as (_, _, address),
        raw(address) as client,
    ):
        await client.until(Kind.GOAWAY)
        client.head(1, "Echo")
        client.data(1, PREFIX.pack(0, LIMIT), ends=False)
        told = client.trailers(await client.last(1))
        assert told["grpc-status"] == str(grpc.StatusCode.CANCELLED.value[0])
        assert inflight.held == 0


async def test_a_response_that_nobody_reads_is_dropped() -> None:
    async with (
        running(Policy(limit=LIMIT, patience=0.05)) as (_, _, address),
        raw(address, (Setting.INITIAL_WINDOW_SIZE, 0)) as client,
    ):
        client.head(1, "Echo")
        client.data(1, HELLO)
        assert (await client.until(Kind.RST_STREAM)).stream == 1
        await client.until(Kind.GOAWAY)


async def test_a_stream_on_which_the_client_has_nothing_to_say_goes_on() -> None:
    async with (
        running(Policy(limit=LIMIT, patience=0.05)) as (_, _, address),
        raw(address) as client,
    ):
        client.head(1, "Converse")
        client.data(1, HELLO, ends=False)
        await client.until(Kind.DATA, 1)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.until(Kind.HEADERS, 1), 0.3)
        client.data(1, HELLO)
        assert (await client.until(Kind.DATA, 1)).payload == HELLO


async def test_a_silent_client_is_asked_and_an_answer_keeps_its_connection() -> None:
    policy = Policy(limit=LIMIT, keepalive=0.05, keepalive_timeout=30)
    async with running(policy) as (_, _, address), raw(address) as client:
        for _ in range(3):
            ping = await client.until(Kind.PING)
            client.send(Kind.PING, frames.ACK, 0, ping.payload)
        client.head(1, "Echo")
        client.data(1, HELLO)
        assert (await client.until(Kind.DATA)).payload == HELLO


async def test_a_client_that_gives_no_sign_of_life_is_given_up() -> None:
    policy = Policy(limit=LIMIT, keepalive=0.05, keepalive_timeout=0.05)
    async with running(policy) as (_, methods, address), raw(address) as client:
        client.head(1, "Hold")
        client.data(1, HELLO)
        await client.ended()
        await methods.until(lambda: methods.ended == [b"hello"])


async def test_an_old_connection_takes_no_new_calls_and_answers_those_it_has() -> None:
    async with (
        running(Policy(limit=LIMIT, max_age=0.1)) as (_, methods, address),
        raw(address) as client,
    ):
        client.head(1, "Hold")
        client.data(1, HELLO)
        await client.until(Kind.GOAWAY)
        ping = await client.until(Kind.PING)
        client.send(Kind.PING, frames.ACK, 0, ping.payload)
        await client.until(Kind.GOAWAY)
        methods.go.set()
        assert Kind.DATA in [frame.kind for frame in await client.ended()]


async def test_calls_of_an_old_connection_end_with_its_grace() -> None:
    policy = Policy(limit=LIMIT, max_age=0.05, max_age_grace=0.05)
    async with running(policy) as (_, methods, address), raw(address) as client:
        client.head(1, "Hold")
        client.data(1, HELLO)
        await client.ended()
        await methods.until(lambda: methods.ended == [b"hello"])


async def test_clients_do_not_notice_that_their_connections_grow_old() -> None:
    async with (
        running(Policy(limit=LIMIT, max_age=0.05)) as (_, _, address),
        grpc.aio.insecure_channel(address) as client,
    ):
        echo = method(client, "Echo")
        loop = asyncio.get_running_loop()
        until = loop.time() + 0.5
        while loop.time() < until:
            assert await echo(b"a") == b"a"


async def test_a_full_server_closes_an_idle_connection_for_a_new_one() -> None:
    async with (
        running(Policy(limit=LIMIT, max_connections=2)) as (_, methods, address),
        raw(address) as busy,
        raw(address) as idle,
    ):
        busy.head(1, "Hold")
        busy.data(1, HELLO)
        await methods.until(lambda: methods.begun == [b"hello"])
        await works(address)
        await idle.ended()
        methods.go.set()
        assert (await busy.until(Kind.DATA)).payload == HELLO


async def test_a_server_full_of_calls_refuses_new_connections() -> None:
    async with (
        running(Policy(limit=LIMIT, max_connections=1)) as (_, methods, address),
        raw(address) as busy,
    ):
        busy.head(1, "Hold")
        busy.data(1, HELLO)
        await methods.until(lambda: methods.begun == [b"hello"])
        async with raw(address) as other:
            assert await other.ended() == []


async def test_a_stop_answers_what_was_accepted() -> None:
    async with (
        running() as (server, methods, address),
        grpc.aio.insecure_channel(address) as client,
    ):
        calls = [method(client, "Hold")(b"%d" % index) for index in range(20)]
        await methods.until(lambda: len(methods.begun) == 20)
        stopping = asyncio.create_task(server.stop(grace=60))
        methods.go.set()
        assert await asyncio.gather(*calls) == [b"%d" % index for index in range(20)]
        await stopping


async def test_what_a_client_says_after_its_last_answer_does_not_reset_the_connection() -> None:
    # A reset would take the answers along that the client has yet to read.
    async with running() as (server, methods, address), raw(address) as client:
        client.head(1, "Hold")
        client.data(1, HELLO)
        await methods.until(lambda: methods.begun == [b"hello"])
        stopping = asyncio.create_task(server.stop(grace=60))
        goodbye = await client.until(Kind.PING)
        client.send(Kind.PING, frames.ACK, payload=goodbye.payload)
        methods.go.set()
        assert Kind.DATA in [frame.kind for frame in await client.ended()]

        for _ in range(3):
            client.send(Kind.PING, payload=bytes(8))
            await client.writer.drain()

        client.writer.close()
        await stopping


async def test_a_stop_does_not_wait_for_ever() -> None:
    async with running() as (server, methods, address), raw(address) as client:
        client.head(1, "Hold")
        client.data(1, HELLO)
        await methods.until(lambda: methods.begun == [b"hello"])
        await server.stop(grace=0.05)
        assert methods.ended == [b"hello"]
        assert Kind.GOAWAY in [frame.kind for frame in await client.ended()]


@pytest.mark.parametrize("name", ["Echo", "Converse", "Group"])
async def test_a_request_that_ends_within_its_message_is_told_so(name: str, caplog: Any) -> None:
    async with running() as (_, _, address), raw(address) as client:
        with nothing_logged(caplog):
            client.head(1, name)
            client.data(1, HELLO[:-1])
            told = client.trailers(await client.last(1))
    assert told["grpc-status"] == str(grpc.StatusCode.INTERNAL.value[0])
    assert told["grpc-message"] == "the request ends before its message does"
