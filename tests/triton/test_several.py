"""Penstock in front of two real Tritons, one of which is killed under load and comes back."""

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Final

import grpc
import httpx
import numpy as np
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from bench.machine import tree
from bench.peers.base import Running
from tests import adders
from tests.e2e.server import Server, penstock_server
from tests.triton.server import triton_server

EXPLICIT: Final = (
    "--model-control-mode=explicit",
    *(f"--load-model={name}" for name in ("adder", "patient")),
    # What was cancelled in a queue would keep it from ending.
    "--exit-timeout-secs=1",
)
# One request alone waits for ever.
PATIENT: Final = """
dynamic_batching { preferred_batch_size: 4 max_queue_delay_microseconds: 3600000000 }
"""
ONE: Final = "instance_group { count: 1 kind: KIND_CPU }"
WORKERS: Final = 8


@dataclass
class Load:
    """Requests without a pause, `WORKERS` at a time, and what became of them."""

    stub: Any
    answered: int = 0
    failures: Counter[grpc.StatusCode] = field(default_factory=Counter)
    _told: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def work(self) -> None:
        while True:
            try:
                answer = await self.stub.ModelInfer(request())
            except grpc.aio.AioRpcError as error:
                self.failures[error.code()] += 1
            else:
                assert answer.raw_output_contents[0] == np.float32(2).tobytes()
                self.answered += 1
            async with self._told:
                self._told.notify_all()

    async def more(self, count: int) -> None:
        """Until so many further requests were answered."""
        wanted = self.answered + count
        async with self._told:
            await self._told.wait_for(lambda: self.answered >= wanted)


def request(model: str = "adder") -> Any:
    message = service_pb2.ModelInferRequest(model_name=model)
    message.inputs.add(name="x", datatype="FP32", shape=[1, 1])
    message.raw_input_contents.append(np.ones((1, 1), np.float32).tobytes())
    return message


async def asked(address: str) -> int:
    """How many requests that Triton has answered."""
    async with grpc.aio.insecure_channel(address) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        statistics = await stub.ModelStatistics(
            service_pb2.ModelStatisticsRequest(name="adder"), wait_for_ready=True
        )
    return sum(one.inference_count for one in statistics.model_stats)


def kill(server: Running) -> None:
    """As the kernel does it that is out of memory; those that it began with it."""
    for pid in tree(server.pid):
        os.kill(pid, signal.SIGKILL)


@dataclass(frozen=True, slots=True)
class Pair:
    """Two Tritons of one repository, and Penstock in front of them."""

    tritons: tuple[Running, Running]
    server: Server
    again: Callable[[], Running]  # the first one once more, on the same port for gRPC


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    folder = tmp_path_factory.mktemp("repository")
    adders.add(folder, "adder", 1, config=ONE)
    adders.add(folder, "patient", 1, config=ONE + PATIENT)
    with ExitStack() as stack:

        def begin(*flags: str) -> Running:
            return stack.enter_context(triton_server(folder, *EXPLICIT, *flags))

        first, second = begin(), begin()
        port = first.grpc.rpartition(":")[2]
        urls = f"--triton-url={first.grpc},{second.grpc}"
        server = stack.enter_context(penstock_server("--engine=triton", urls, repository=None))
        yield Pair((first, second), server, lambda: begin(f"--grpc-port={port}"))


def test_loads_go_to_all_and_statistics_are_those_of_all(pair: Pair) -> None:
    def ready() -> set[int]:
        path = "/v2/models/adder/ready"
        return {httpx.get(f"http://{one.http}{path}").status_code for one in pair.tritons}

    x = {"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [1]}
    with httpx.Client(base_url=pair.server.url, timeout=60) as rest:
        rest.post("/v2/repository/models/adder/unload").raise_for_status()
        assert ready() == {400}
        rest.post("/v2/repository/models/adder/load").raise_for_status()
        assert ready() == {200}
        for _ in range(6):
            rest.post("/v2/models/adder/infer", json={"inputs": [x]}).raise_for_status()
        counted = {"inference_count": 0}
        # A Triton answers before it counts.
        while counted["inference_count"] < 6:
            [counted] = rest.get("/v2/models/adder/stats").json()["model_stats"]
    shares = [asyncio.run(asked(triton.grpc)) for triton in pair.tritons]
    assert min(shares) >= 1
    assert counted["inference_count"] == sum(shares) == 6


async def test_a_deadline_ends_what_waits_in_a_triton(pair: Pair) -> None:
    async with grpc.aio.insecure_channel(pair.server.grpc) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.ModelInfer(request("patient"), timeout=0.5)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


async def test_a_triton_that_is_killed_loses_what_it_had_and_comes_back(pair: Pair) -> None:
    doomed, other = pair.tritons
    async with (
        httpx.AsyncClient(base_url=pair.server.url) as rest,
        grpc.aio.insecure_channel(pair.server.grpc) as channel,
    ):
        load = Load(service_pb2_grpc.GRPCInferenceServiceStub(channel))
        workers = [asyncio.create_task(load.work()) for _ in range(WORKERS)]
        await load.more(100)
        # One that stands still for a moment is asked less meanwhile.
        while min(await asked(doomed.grpc), await asked(other.grpc)) < 20:
            await load.more(20)
        assert not load.failures

        kill(doomed)
        await load.more(200)
        # All that any of them can have had in hand there; nothing that was sent later.
        lost = load.failures.total()
        assert lost <= WORKERS
        assert set(load.failures) <= {grpc.StatusCode.UNAVAILABLE}
        assert (await rest.get("/v2/health/ready")).status_code == 200

        await asyncio.to_thread(pair.again)
        while await asked(doomed.grpc) < 20:
            await load.more(20)
        assert load.failures.total() == lost
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
