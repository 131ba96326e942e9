"""The official clients load and unload models, where they may; a server follows its repository."""

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import grpc
import httpx
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from tritonclient.utils import InferenceServerException

from tests import adders
from tests.e2e.clients import CLIENTS, Client, connect
from tests.e2e.server import Server, failed_start, penstock_server

UNPROVEN: Final = "--passport-policy=off"
EXPLICIT: Final = ("--model-control-mode=explicit", UNPROVEN)
LIMIT: Final = 1024 * 1024


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("repository")
    adders.add(folder, "a", 1, 2)
    adders.add(folder, "b", 1)
    return folder


@pytest.fixture(scope="module")
def explicit(repository: Path) -> Iterator[Server]:
    flags = (*EXPLICIT, "--load-model=b", f"--http-max-input-size={LIMIT}")
    with penstock_server(*flags, repository=repository) as server:
        yield server


async def number(client: Client, model: str) -> int:
    result = await client.infer(model, {"x": np.zeros((1, 1), np.float32)})
    return int(result.as_numpy("y")[0, 0])


async def ready_versions(client: Client, model: str) -> list[str]:
    answer = await client.call("get_model_repository_index")
    entries = answer["models"] if client.is_grpc else answer
    return [
        entry["version"]
        for entry in entries
        if entry["name"] == model and entry.get("state") == "READY"
    ]


def status(error: InferenceServerException) -> str:
    return str(error.status()).removeprefix("StatusCode.")


@pytest.mark.parametrize("name", CLIENTS)
async def test_every_client_can_load_override_and_unload(explicit: Server, name: str) -> None:
    async with connect(name, explicit) as client:
        await client.call("load_model", "a")
        assert await number(client, "a") == 2
        every = adders.config_json(version_policy={"all": {}})
        await client.call("load_model", "a", config=every)
        assert await ready_versions(client, "a") == ["1", "2"]
        files = {"file:7/model.onnx": adders.graph(70)}
        await client.call("load_model", "a", config=every, files=files)
        assert await number(client, "a") == 70
        assert await ready_versions(client, "a") == ["7"]
        await client.call("unload_model", "a")
        assert await ready_versions(client, "a") == []
        assert await client.call("is_model_ready", "a") is False
        assert await number(client, "b") == 1


@pytest.mark.parametrize("name", CLIENTS)
async def test_every_client_is_told_why_a_load_was_refused(explicit: Server, name: str) -> None:
    async with connect(name, explicit) as client:
        for options, code, words in (
            (
                {},
                "FAILED_PRECONDITION",
                "failed to load 'nobody', failed to poll from model repository",
            ),
            (
                {"config": "{}", "files": {"file:../1/model.onnx": b""}},
                "INVALID_ARGUMENT",
                "file:../1/model.onnx: the path must be relative",
            ),
        ):
            with pytest.raises(InferenceServerException) as failure:
                await client.call("load_model", "nobody", **options)
            expected = code if client.is_grpc else "400"
            assert status(failure.value) == expected
            assert words in str(failure.value.message())


@pytest.mark.parametrize("name", CLIENTS)
async def test_without_explicit_mode_every_client_is_refused(server: Server, name: str) -> None:
    async with connect(name, server) as client:
        for method in ("load_model", "unload_model"):
            with pytest.raises(InferenceServerException) as failure:
                await client.call(method, "digits-mlp")
            assert status(failure.value) == ("UNAVAILABLE" if client.is_grpc else "503")
            assert str(failure.value.message()) == (
                "explicit model load / unload is not allowed if polling is enabled"
            )
        assert await client.call("is_model_ready", "digits-mlp")


def test_what_a_load_brings_is_limited_as_every_request(explicit: Server) -> None:
    with httpx.Client(base_url=explicit.url) as rest:
        answer = rest.post("/v2/repository/models/a/load", content=bytes(LIMIT + 1))
        assert answer.status_code == 413


@pytest.mark.parametrize(
    "path",
    ["/index", "/models/b/load", "/models/b/unload"],
)
def test_a_repository_cannot_be_asked_by_name(explicit: Server, path: str) -> None:
    with httpx.Client(base_url=explicit.url) as rest:
        answer = rest.post(f"/v2/repository/models_of_ours{path}")
        assert answer.status_code == 501
        assert answer.json() == {"error": "'repository_name' specification is not supported"}


async def test_whoever_watches_is_told_when_a_load_makes_the_server_ready(tmp_path: Path) -> None:
    folder = adders.add(tmp_path, "a", 1)
    adders.put(folder, 1, adders.BROKEN)
    flags = (*EXPLICIT, "--load-model=a", "--exit-on-error=false")
    with penstock_server(*flags, repository=tmp_path) as server:
        async with grpc.aio.insecure_channel(server.grpc) as channel, asyncio.timeout(60):
            watched = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
            assert (await watched.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
            adders.publish(folder, 1, 1)
            async with connect("grpc.aio", server) as client:
                await client.call("load_model", "a")
            assert (await watched.read()).status == health_pb2.HealthCheckResponse.SERVING


async def test_a_server_that_polls_follows_its_repository(tmp_path: Path) -> None:
    folder = adders.add(tmp_path, "a", 1)
    flags = ("--model-control-mode=poll", "--repository-poll-secs=1", UNPROVEN)
    with penstock_server(*flags, repository=tmp_path) as server:
        async with connect("http.aio", server) as client:
            assert await number(client, "a") == 1
            adders.publish(folder, 2, 22)
            adders.add(tmp_path, "b", 5)
            await asyncio.to_thread(server.wait_for, "penstock.load: loaded a version 2")
            await asyncio.to_thread(server.wait_for, "penstock.load: loaded b version 5")
            assert await number(client, "a") == 22
            assert await number(client, "b") == 5
            adders.put(folder, 3, adders.BROKEN)
            await asyncio.to_thread(server.wait_for, "version 3 is at UNAVAILABLE state")
            assert await number(client, "a") == 22


def test_a_name_in_two_repositories_stops_the_start(tmp_path: Path) -> None:
    for place in ("one", "two"):
        adders.add(tmp_path / place, "a", 1)
    said = failed_start(f"--model-repository={tmp_path / 'two'}", repository=tmp_path / "one")
    assert "model 'a' is not unique across all model repositories" in said
