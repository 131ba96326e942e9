"""Callers must have keys over both protocols, with rights; and the file of keys may change."""

import hashlib
import os
from collections.abc import Callable, Iterator
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

USER: Final = "5f1c9a0b7e3d42c8"
OPERATOR: Final = "c0ffee00c0ffee00c0ffee00"
STATUSES: Final = {401: "UNAUTHENTICATED", 403: "PERMISSION_DENIED"}
IN_FORCE: Final = "API keys of .* have changed; the new ones are in force"


def line(name: str, key: str, rights: str = "") -> str:
    return f"{name} sha256:{hashlib.sha256(key.encode()).hexdigest()} {rights}\n"


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("repository")
    adders.add(folder, "a", 1)
    return folder


@pytest.fixture(scope="module")
def server(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    file = tmp_path_factory.mktemp("keys") / "keys"
    file.write_text(f"# who may call\nfrontend {USER}\n" + line("operator", OPERATOR, "admin"))
    flags = (
        "--model-control-mode=explicit",
        "--load-model=a",
        "--passport-policy=off",
        f"--api-keys-file={file}",
        "--log-verbose=1",
    )
    with penstock_server(*flags, repository=repository) as running:
        yield running


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


async def infer(client: Client, headers: dict[str, str]) -> float:
    zero = {"x": np.zeros((1, 1), np.float32)}
    # A client of HTTP adds its own to what it is given.
    result = await client.infer("a", zero, headers=dict(headers))
    return float(result.as_numpy("y")[0, 0])


async def refused(client: Client, status: int, method: str, *args: str, key: str = "") -> str:
    """What is said to a call that is refused by that status."""
    with pytest.raises(InferenceServerException) as error:
        await client.call(method, *args, headers=bearer(key) if key else None)
    expected = f"StatusCode.{STATUSES[status]}" if client.is_grpc else str(status)
    assert str(error.value.status()) == expected
    return str(error.value.message())


@pytest.mark.parametrize("name", CLIENTS)
@pytest.mark.parametrize("headers", [bearer(USER), {"x-api-key": USER}, bearer(OPERATOR)])
async def test_every_client_infers_with_a_key(
    server: Server, name: str, headers: dict[str, str]
) -> None:
    async with connect(name, server) as client:
        assert await infer(client, headers) == 1


@pytest.mark.parametrize("name", CLIENTS)
async def test_without_a_key_nothing_is_answered_but_health(server: Server, name: str) -> None:
    async with connect(name, server) as client:
        with pytest.raises(InferenceServerException, match="an API key is needed"):
            await infer(client, {})
        for method, *args in (
            ("get_server_metadata",),
            ("get_model_config", "a"),
            ("get_inference_statistics",),
            ("get_model_repository_index",),
            ("unload_model", "a"),
            ("get_log_settings",),
            ("get_trace_settings",),
            ("get_system_shared_memory_status",),
        ):
            assert "an API key is needed" in await refused(client, 401, method, *args)
        assert await client.call("is_server_ready")
        assert await client.call("is_model_ready", "a")


@pytest.mark.parametrize("name", CLIENTS)
async def test_a_key_that_is_not_known_opens_nothing(server: Server, name: str) -> None:
    async with connect(name, server) as client:
        for key in (USER[:-1], f"{USER}0", USER.upper(), "frontend"):
            said = await refused(client, 401, "get_server_metadata", key=key)
            assert said == "the API key is not known to this server"


@pytest.mark.parametrize("name", CLIENTS)
async def test_a_key_opens_what_its_rights_include_and_no_more(server: Server, name: str) -> None:
    async with connect(name, server) as client:
        await client.call("get_model_config", "a", headers=bearer(USER))
        await client.call("get_inference_statistics", headers=bearer(USER))
        for method, *args in (("load_model", "a"), ("unload_model", "a"), ("get_log_settings",)):
            said = await refused(client, 403, method, *args, key=USER)
            assert said.startswith("the rights of the API key 'frontend' do not include ")
        await client.call("load_model", "a", headers=bearer(OPERATOR))
        await client.call("get_log_settings", headers=bearer(OPERATOR))


def test_who_has_no_key_is_told_the_scheme(server: Server) -> None:
    answer = httpx.post(f"{server.url}/v2/models/a/infer", content=b"")
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert answer.headers["content-type"] == "application/json"
    basic = httpx.get(f"{server.url}/v2", auth=("frontend", USER))
    assert basic.status_code == 401


def test_probes_scrapes_and_documentation_need_no_key(server: Server) -> None:
    for path in ("/v2/health/live", "/v2/health/ready", "/", "/docs", "/openapi.json"):
        assert httpx.get(server.url + path, follow_redirects=True).status_code == 200
    assert httpx.get(f"http://{server.metrics}/metrics").status_code == 200
    with grpc.insecure_channel(server.grpc) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        answer = health.Check(health_pb2.HealthCheckRequest())
    assert answer.status == health_pb2.HealthCheckResponse.SERVING


@pytest.mark.parametrize("path", ["/v2/models/a/other", "/v2//models/a", "//", "/v2/models/../a"])
def test_what_there_is_not_is_not_told_without_a_key(server: Server, path: str) -> None:
    assert httpx.get(server.url + path).status_code == 401
    assert httpx.get(server.url + path, headers=bearer(USER)).status_code == 404


@pytest.mark.parametrize(
    "path", ["/v2/models/a/%69nfer", "/v2/models/a/versions/1/infer", "/predict/a", "/%76%32"]
)
def test_escapes_in_a_path_are_no_way_around(server: Server, path: str) -> None:
    assert httpx.post(server.url + path, content=b"{}").status_code == 401


async def test_a_stream_needs_a_key_before_its_first_message(server: Server) -> None:
    with grpc.insecure_channel(server.grpc) as channel:
        method = channel.stream_stream("/inference.GRPCInferenceService/ModelStreamInfer")
        call = method(iter(()))
        with pytest.raises(grpc.RpcError) as error:
            next(call)
    assert error.value.code() is grpc.StatusCode.UNAUTHENTICATED


async def test_the_log_names_the_caller_and_no_key(server: Server) -> None:
    for name in CLIENTS:
        async with connect(name, server) as client:
            await client.call("get_server_metadata", headers=bearer(USER))
    server.wait_for(r"http GET /v2 200 in .* for frontend$")
    server.wait_for(r"grpc ServerMetadata OK in .* for frontend$")
    assert USER not in str(server)
    assert OPERATOR not in str(server)


async def test_the_log_says_why_a_call_was_refused(server: Server) -> None:
    for name in CLIENTS:
        async with connect(name, server) as client:
            for key in ("an unknown key", USER):
                with pytest.raises(InferenceServerException):
                    await client.call("load_model", "a", headers=bearer(key))
    for call, statuses in (
        ("http POST /v2/repository/models/a/load", ("401", "403")),
        ("grpc RepositoryModelLoad", STATUSES.values()),
    ):
        unknown, forbidden = statuses
        address = r"from 127\.0\.0\.1:[1-9]\d+"
        server.wait_for(f"{call} {unknown} in .* {address}: the API key is not known to this")
        lacking = "the rights of the API key 'frontend' do not include model-repository"
        server.wait_for(f"{call} {forbidden} in .* {address}: {lacking}$")


def status(server: Server, key: str) -> int:
    return httpx.get(f"{server.url}/v2", headers=bearer(key)).status_code


def in_place(file: Path, text: str) -> None:
    file.write_text(text)


def by_rename(file: Path, text: str) -> None:
    new = file.with_name("new")
    new.write_text(text)
    new.rename(file)


def by_link(file: Path, text: str) -> None:
    """As Kubernetes does: the file is a link through a link to a folder, which is swapped."""
    data = file.parent / "..data"
    folder = file.parent / f"..{len(list(file.parent.iterdir()))}"
    folder.mkdir()
    (folder / file.name).write_text(text)
    link = file.parent / "..data_tmp"
    link.symlink_to(folder.name)
    os.replace(link, data)
    if not file.is_symlink():
        file.symlink_to(Path("..data", file.name))


@pytest.mark.parametrize("write", [in_place, by_rename, by_link])
def test_a_changed_file_is_in_force_without_a_restart(
    repository: Path, tmp_path: Path, write: Callable[[Path, str], None]
) -> None:
    file = tmp_path / "keys"
    write(file, line("old", USER))
    with penstock_server(
        f"--api-keys-file={file}", "--passport-policy=off", repository=repository
    ) as server:
        assert (status(server, USER), status(server, OPERATOR)) == (200, 401)
        write(file, line("new", OPERATOR))
        server.wait_for(IN_FORCE)
        assert (status(server, USER), status(server, OPERATOR)) == (401, 200)


def test_a_broken_file_leaves_the_old_keys_in_force(repository: Path, tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(line("old", USER))
    with penstock_server(
        f"--api-keys-file={file}", "--passport-policy=off", repository=repository
    ) as server:
        file.write_text(line("new", OPERATOR) + "only-a-name\n")
        server.wait_for(r"ERROR .*keys:2: expected NAME KEY .* read before stay in force")
        assert (status(server, USER), status(server, OPERATOR)) == (200, 401)
        file.unlink()
        server.wait_for(r"ERROR .*cannot read --api-keys-file .*No such file")
        assert status(server, USER) == 200
        file.write_text(line("new", OPERATOR))
        server.wait_for(IN_FORCE)
        assert (status(server, USER), status(server, OPERATOR)) == (401, 200)


def test_a_server_without_the_keys_it_was_told_of_does_not_start(
    repository: Path, tmp_path: Path
) -> None:
    missing = tmp_path / "none"
    said = failed_start(f"--api-keys-file={missing}", repository=repository)
    assert f"cannot read --api-keys-file {missing}: No such file or directory" in said
