"""What the metrics tell of each server: how it does, what it has in hand, what it failed to do."""

import asyncio

import pytest
from tritonclient.grpc import service_pb2

from bench.peers.base import free_ports
from serving import server_metrics
from serving.errors import (
    DeadlineExceeded,
    Internal,
    InvalidArgument,
    NotFound,
    Overloaded,
    ServingError,
    Unavailable,
)
from serving.settings import Settings
from serving.statistics import ServerFailure, ServerStatistics
from serving.triton.dialling import Dialling
from serving.triton.failures import Untouched
from serving.triton.link import Link
from tests.serving.gateway.scripted import ScriptedEngine, echo
from tests.serving.triton.test_engine import asking, failing, held, request


def failed(server: ServerStatistics) -> dict[ServerFailure, int]:
    return {reason: count for reason, count in server.failures.items() if count}


async def test_a_server_that_answers_is_up_and_ready_and_its_calls_are_counted() -> None:
    async with asking(ScriptedEngine(m=echo)) as asked:
        await asked.engine.infer(request("a"))
        [before] = await asked.engine.servers()
        await asked.engine.infer(request("b"))
        [after] = await asked.engine.servers()
    assert (after.is_reachable, after.is_ready, after.outstanding) == (True, True, 0)
    assert after.calls == before.calls + 1
    assert failed(after) == {}


async def test_what_a_server_has_in_hand_is_told() -> None:
    gate = asyncio.Event()
    server = ScriptedEngine(m=held(gate))
    async with asking(server) as asked:
        task = asyncio.create_task(asked.engine.infer(request("a")))
        await server.until(lambda: server.begun == ["a"])
        assert [one.outstanding for one in await asked.engine.servers()] == [1]
        gate.set()
        await task
        assert [one.outstanding for one in await asked.engine.servers()] == [0]


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (Overloaded("Exceeds maximum queue size of 1 requests", 2.5), {ServerFailure.REFUSED: 1}),
        (NotFound("Request for unknown model: 'm' is not found"), {ServerFailure.REFUSED: 1}),
        (DeadlineExceeded("too late"), {ServerFailure.LATE: 1}),
        (Internal("out of memory"), {ServerFailure.FAILED: 1}),
        (Unavailable("perhaps it ran"), {ServerFailure.FAILED: 1}),
        (InvalidArgument("wrong"), {}),
    ],
    ids=str,
)
async def test_what_a_server_did_instead_of_answering_is_told_but_for_callers_faults(
    error: ServingError, expected: dict[ServerFailure, int], caplog: pytest.LogCaptureFixture
) -> None:
    async with asking(ScriptedEngine(m=failing(error))) as asked:
        with pytest.raises(type(error)):
            await asked.engine.infer(request("a"))
        [server] = await asked.engine.servers()
    assert failed(server) == expected
    # Who is to look after that server finds why in the log.
    told = f"{server.address}: {error.message}" in caplog.messages
    assert told == (ServerFailure.FAILED in expected)


async def test_nobody_there_is_told_as_well() -> None:
    [port] = free_ports(1)
    link = Link(
        ServerStatistics(f"127.0.0.1:{port}"), "localhost", Dialling(Settings()), lambda: None
    )
    with pytest.raises(Untouched):
        await link.call("ServerMetadata", service_pb2.ServerMetadataRequest())
    await link.close(0)
    assert failed(link.statistics()) == {ServerFailure.UNREACHABLE: 1}
    assert not link.statistics().is_reachable


def test_each_server_has_its_metrics() -> None:
    server = ServerStatistics("10.0.0.1:8001", is_reachable=True, outstanding=3, calls=7)
    server.failures[ServerFailure.LATE] = 2
    lines = server_metrics.render([server]).decode().splitlines()

    assert [line for line in lines if not line.startswith("#")] == [
        'penstock_server_up{server="10.0.0.1:8001"} 1.0',
        'penstock_server_ready{server="10.0.0.1:8001"} 0.0',
        'penstock_server_outstanding_calls{server="10.0.0.1:8001"} 3.0',
        'penstock_server_calls_total{server="10.0.0.1:8001"} 7.0',
        'penstock_server_failures_total{reason="unreachable",server="10.0.0.1:8001"} 0.0',
        'penstock_server_failures_total{reason="refused",server="10.0.0.1:8001"} 0.0',
        'penstock_server_failures_total{reason="late",server="10.0.0.1:8001"} 2.0',
        'penstock_server_failures_total{reason="failed",server="10.0.0.1:8001"} 0.0',
    ]


def test_where_this_process_executes_the_models_there_are_none() -> None:
    assert server_metrics.render(()) == b""
