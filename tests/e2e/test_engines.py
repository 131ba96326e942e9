"""A server whose models are executed by two processes is one server, also when one is killed."""

import os
import re
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Event
from typing import Any, Final

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
from tritonclient.utils import InferenceServerException

from tests import adders
from tests.e2e.scrape import scrape
from tests.e2e.server import Server, failed_start, penstock_server

FLAGS: Final = (
    "--workers=1",
    "--engines=2",
    "--model-control-mode=explicit",
    "--load-model=*",
)
CLIENTS: Final = {
    "http": (tritonclient.http, "http"),
    "grpc": (tritonclient.grpc, "grpc"),
}


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("repository")
    adders.add(path, "m", 1)
    adders.add(path, "spare", 1)
    return path


@pytest.fixture(scope="module")
def server(repository: Path) -> Iterator[Server]:
    with penstock_server(*FLAGS, repository=repository) as running:
        yield running


class Client:
    """One of the official clients, with the answer to a request as a number or a status."""

    def __init__(self, server: Server, protocol: str) -> None:
        self.module, address = CLIENTS[protocol]
        self.connection: Any = self.module.InferenceServerClient(getattr(server, address))

    def infer(self, model: str = "m") -> float:
        x = self.module.InferInput("x", [1, 1], "FP32")
        x.set_data_from_numpy(np.ones((1, 1), np.float32))
        return float(self.connection.infer(model, [x]).as_numpy("y").item())

    def outcome(self) -> str:
        try:
            return str(self.infer())
        except InferenceServerException as error:
            return str(error.status())


@pytest.fixture(params=CLIENTS)
def client(server: Server, request: pytest.FixtureRequest) -> Iterator[Client]:
    made = Client(server, request.param)
    yield made
    made.connection.close()


def processes(server: Server) -> dict[str, int]:
    """The ids of the engines that were started last."""
    lines = (re.search(r"the (engine \d) is process (\d+)", line) for line in server.log)
    return {found[1]: int(found[2]) for found in lines if found}


def succeeded(server: Server) -> float:
    return scrape(server).value("nv_inference_request_success", model="m", version="1")


def test_both_protocols_are_answered_and_all_is_counted_together(
    server: Server, client: Client
) -> None:
    before = succeeded(server)
    assert {client.infer() for _ in range(6)} == {2.0}
    assert succeeded(server) == before + 6
    told = client.connection.get_inference_statistics("m")
    if isinstance(told, dict):
        assert told["model_stats"][0]["inference_stats"]["success"]["count"] == before + 6
    else:
        assert told.model_stats[0].inference_stats.success.count == before + 6


def test_loads_and_unloads_hold_in_all_engines_once_they_are_answered(
    client: Client, repository: Path
) -> None:
    client.connection.unload_model("spare")
    for _ in range(4):
        with pytest.raises(InferenceServerException, match="'spare'"):
            client.infer("spare")
    adders.put(repository / "spare", 2, adders.BROKEN)
    with pytest.raises(InferenceServerException):
        client.connection.load_model("spare")
    assert not client.connection.is_model_ready("spare")
    adders.publish(repository / "spare", 2, 2)
    client.connection.load_model("spare")
    assert {client.infer("spare") for _ in range(4)} == {3.0}
    adders.remove(repository / "spare", 2)
    client.connection.load_model("spare")
    assert {client.infer("spare") for _ in range(4)} == {2.0}


@pytest.mark.parametrize("killed", ["engine 2", "engine 1"])
def test_with_a_killed_engine_only_what_it_had_in_hand_is_lost(server: Server, killed: str) -> None:
    """And with the first of them, for the moment, what is asked about the whole."""
    threads, stop = 4, Event()

    def ask(protocol: str) -> list[str]:
        asking, outcomes = Client(server, protocol), []
        while not stop.is_set():
            outcomes.append(asking.outcome())
        asking.connection.close()
        return outcomes

    before = succeeded(server)
    with ThreadPoolExecutor(threads) as pool:
        asked = [pool.submit(ask, protocol) for protocol in list(CLIENTS) * (threads // 2)]
        while succeeded(server) < before + 20:
            pass
        kill(server, killed)
        stop.set()
        outcomes = [outcome for each in asked for outcome in each.result()]
    lost = [outcome for outcome in outcomes if outcome != "2.0"]
    assert set(lost) <= {"503", "StatusCode.UNAVAILABLE"}
    assert len(lost) <= threads
    client = Client(server, "http")
    until_all_are_there(client)
    after = succeeded(server)
    assert before + 20 <= after <= before + len(outcomes)
    assert {client.infer("spare") for _ in range(4)} == {2.0}
    client.connection.close()


@pytest.mark.parametrize(("killed", "version"), [("engine 2", 3), ("engine 1", 4)])
def test_what_a_killed_engine_finds_changed_as_it_is_started_again_all_serve(
    server: Server, repository: Path, killed: str, version: int
) -> None:
    """Not one the old version, and the other the new one."""
    adders.publish(repository / "spare", version, version)
    kill(server, killed)
    for engine in ("engine 1", "engine 2"):
        server.wait_for(f"{engine}: loaded spare version {version} ")
    client = Client(server, "http")
    until_all_are_there(client)
    assert {client.infer("spare") for _ in range(4)} == {1.0 + version}
    client.connection.close()


def kill(server: Server, name: str) -> None:
    """End a process at once; returns when another has taken its place."""
    process = processes(server)[name]
    os.kill(process, signal.SIGKILL)
    while processes(server)[name] == process:
        time.sleep(0.01)


def until_all_are_there(client: Client) -> None:
    """Models can be loaded again."""
    while True:
        with suppress(InferenceServerException):
            client.connection.load_model("spare")
            return
        time.sleep(0.01)


def test_a_start_that_fails_in_the_engines_says_why(tmp_path: Path) -> None:
    adders.add(tmp_path, "m", 1, config="no_such_field: 1")
    assert "no_such_field" in failed_start("--workers=1", "--engines=2", repository=tmp_path)
