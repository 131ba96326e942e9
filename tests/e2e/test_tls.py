"""Both protocols over TLS, with and without certificates of clients, and through a renewal."""

import os
import shutil
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
from aiohttp import ClientError
from geventhttpclient.response import HTTPConnectionClosed
from tritonclient.grpc import service_pb2, service_pb2_grpc
from tritonclient.utils import InferenceServerException

from tests.e2e.certificates import Authority, Files, client_options, context
from tests.e2e.clients import CLIENTS, Client, connect
from tests.e2e.repositories import add_identity
from tests.e2e.server import ROOT, Server, environment, failed_start, penstock_server

PROTOCOLS = ("http", "grpc")
# What a connection that the server does not want ends with: each client has a word of its own.
REFUSALS = (InferenceServerException, OSError, ClientError, HTTPConnectionClosed)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("repository")
    add_identity(folder)
    return folder


@pytest.fixture(scope="module")
def authority() -> Authority:
    return Authority()


@pytest.fixture(scope="module")
def files(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Files:
    return authority.issue(tmp_path_factory.mktemp("server"))


@pytest.fixture(scope="module")
def own(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Files:
    return authority.issue(tmp_path_factory.mktemp("client"))


@pytest.fixture(scope="module")
def secured(repository: Path, files: Files) -> Iterator[Server]:
    flags = [flag for protocol in PROTOCOLS for flag in files.flags(protocol)]
    with penstock_server(*flags, repository=repository) as server:
        yield server


@pytest.fixture(scope="module")
def mutual(repository: Path, files: Files) -> Iterator[Server]:
    flags = [flag for protocol in PROTOCOLS for flag in files.flags(protocol, mutual=True)]
    with penstock_server(*flags, repository=repository) as server:
        yield server


async def echoed(client: Client) -> Any:
    sent = np.array([[2.5]], np.float32)
    return (await client.infer("echo", {"x": sent})).as_numpy("y")


@pytest.mark.parametrize("name", CLIENTS)
async def test_every_client_infers_over_tls(secured: Server, files: Files, name: str) -> None:
    async with connect(name, secured, **client_options(name, files.root)) as client:
        assert await echoed(client) == 2.5


@pytest.mark.parametrize("name", CLIENTS)
async def test_every_client_shows_its_certificate_where_it_must(
    mutual: Server, files: Files, own: Files, name: str
) -> None:
    async with connect(name, mutual, **client_options(name, files.root, own)) as client:
        assert await echoed(client) == 2.5


@pytest.mark.parametrize("name", CLIENTS)
async def test_a_client_without_a_certificate_gets_nothing_where_it_must_have_one(
    mutual: Server, files: Files, name: str
) -> None:
    async with connect(name, mutual, **client_options(name, files.root)) as client:
        with pytest.raises(REFUSALS):
            await client.call("get_server_metadata")


@pytest.mark.parametrize("name", CLIENTS)
async def test_a_certificate_of_another_authority_opens_nothing(
    mutual: Server, files: Files, tmp_path: Path, name: str
) -> None:
    stranger = Authority().issue(tmp_path)
    async with connect(name, mutual, **client_options(name, files.root, stranger)) as client:
        with pytest.raises(REFUSALS):
            await client.call("get_server_metadata")


def test_a_port_with_tls_does_not_answer_in_the_clear(secured: Server) -> None:
    with pytest.raises(httpx.RemoteProtocolError):
        httpx.get(f"http://{secured.http}/v2")
    with grpc.insecure_channel(secured.grpc) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        with pytest.raises(grpc.RpcError) as refused:
            stub.ServerLive(service_pb2.ServerLiveRequest())
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE


@contextmanager
def mute(address: str, number: int) -> Iterator[list[socket.socket]]:
    """Connections that never begin with their handshakes, and give up before they time out."""
    host, port = address.split(":")
    with ExitStack() as stack:
        yield [
            stack.enter_context(socket.create_connection((host, int(port)), 30))
            for _ in range(number)
        ]


def open_sockets(server: Server) -> int:
    found = 0
    for each in Path(f"/proc/{server.process.pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            found += os.readlink(each).startswith("socket:")
    return found


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_handshakes_that_never_begin_are_bounded_and_keep_nobody_away(
    repository: Path, files: Files, protocol: str
) -> None:
    limit = 4
    with penstock_server(
        *files.flags(protocol), f"--max-connections={limit}", repository=repository
    ) as server:
        before = open_sockets(server)
        with mute(getattr(server, protocol), 10 * limit) as opened:
            # All but the youngest make room for it, the oldest first.
            for each in opened[:-limit]:
                with suppress(ConnectionResetError):
                    assert each.recv(1) == b""
            # What a client has heard of may take a moment to be closed.
            while open_sockets(server) > before + limit:
                pass
            assert is_live(server, files, protocol)
        server.wait_for(f"{limit} TLS handshakes are under way, which is all there may be")


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_handshake_has_as_long_as_a_silence_may_last(
    repository: Path, files: Files, protocol: str
) -> None:
    flags = (*files.flags(protocol), "--connection-idle-secs=1")
    with penstock_server(*flags, repository=repository) as server:
        with mute(getattr(server, protocol), 1) as [opened], suppress(ConnectionResetError):
            assert opened.recv(1) == b""
        assert is_live(server, files, protocol)


def is_live(server: Server, files: Files, protocol: str) -> bool:
    if protocol == "http":
        url = f"https://{server.http}/v2/health/live"
        return httpx.get(url, verify=context(files.root)).status_code == 200
    credentials = grpc.ssl_channel_credentials(files.root.read_bytes())
    with grpc.secure_channel(server.grpc, credentials) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        return bool(stub.ServerLive(service_pb2.ServerLiveRequest(), timeout=30).live)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_who_brings_no_certificate_is_told_so_by_tls(
    mutual: Server, files: Files, protocol: str
) -> None:
    host, port = getattr(mutual, protocol).split(":")
    with (
        socket.create_connection((host, int(port))) as opened,
        context(files.root).wrap_socket(opened, server_hostname=host) as secured,
        pytest.raises(ssl.SSLError, match="ALERT_CERTIFICATE_REQUIRED"),
    ):
        secured.recv(1)


def test_the_server_says_where_it_is_by_https(secured: Server) -> None:
    said = "".join(secured.output)
    port = secured.http.rpartition(":")[2]
    assert f"REST     https://127.0.0.1:{port}/v2" in said
    assert f"curl -s https://127.0.0.1:{port}/v2/models/echo/infer" in said
    assert f"Metrics  http://{secured.metrics}/metrics" in said


def shown(address: str) -> str:
    """The certificate that a new connection sees."""
    host, port = address.split(":")
    return ssl.get_server_certificate((host, int(port)))


def first(certificate: Path) -> str:
    return ssl.DER_cert_to_PEM_cert(
        ssl.PEM_cert_to_DER_cert(
            certificate.read_text().partition("-----END CERTIFICATE-----")[0]
            + "-----END CERTIFICATE-----\n"
        )
    )


@pytest.fixture
def renewable(repository: Path, authority: Authority, tmp_path: Path) -> Iterator[Server]:
    files = authority.issue(tmp_path)
    flags = [flag for protocol in PROTOCOLS for flag in files.flags(protocol)]
    with penstock_server(*flags, repository=repository) as server:
        yield server


def test_a_renewed_certificate_is_shown_without_a_restart(
    renewable: Server, authority: Authority, tmp_path: Path
) -> None:
    files = Files(tmp_path / "tls.crt", tmp_path / "tls.key", tmp_path / "ca.crt")
    old = first(files.certificate)
    assert shown(renewable.http) == shown(renewable.grpc) == old
    with httpx.Client(base_url=f"https://{renewable.http}", verify=context(files.root)) as client:
        assert client.get("/v2/health/live").is_success

        authority.issue(tmp_path)
        for protocol in PROTOCOLS:
            renewable.wait_for(f"the certificates of {protocol} have changed")

        assert client.get("/v2/health/live").is_success
    new = first(files.certificate)
    assert new != old
    assert shown(renewable.http) == shown(renewable.grpc) == new


def test_a_broken_renewal_leaves_the_old_certificate_in_force(
    renewable: Server, tmp_path: Path
) -> None:
    old = first(tmp_path / "tls.crt")
    other = tmp_path / "other"
    other.mkdir()
    shutil.copy(Authority().issue(other).key, tmp_path / "tls.key")
    for protocol in PROTOCOLS:
        renewable.wait_for(
            f"--{protocol}-server-key .*is not the key of .*certificates of {protocol} read before"
        )

    assert shown(renewable.http) == shown(renewable.grpc) == old


async def test_clients_are_held_against_the_authority_that_is_in_the_file_now(
    repository: Path, authority: Authority, tmp_path: Path
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    files = authority.issue(here)
    flags = [flag for protocol in PROTOCOLS for flag in files.flags(protocol, mutual=True)]
    old = shutil.copytree(here, tmp_path / "old")
    with penstock_server(*flags, repository=repository) as server:
        new = Authority().issue(there)
        for name in ("tls.crt", "tls.key", "ca.crt"):
            shutil.copy(there / name, here / name)
        for protocol in PROTOCOLS:
            server.wait_for(f"the certificates of {protocol} have changed")

        stranger = Files(old / "tls.crt", old / "tls.key", old / "ca.crt")
        for name in ("http.aio", "grpc.aio"):
            async with connect(name, server, **client_options(name, new.root, new)) as client:
                assert await client.call("is_server_live")
            async with connect(name, server, **client_options(name, new.root, stranger)) as client:
                with pytest.raises(REFUSALS):
                    await client.call("get_server_metadata")


def test_a_server_whose_key_is_another_does_not_start(
    repository: Path, files: Files, own: Files
) -> None:
    wrong = Files(files.certificate, own.key, files.root)
    said = failed_start(*wrong.flags("grpc"), repository=repository)
    assert f"--grpc-server-key {own.key} is not the key of the first certificate in" in said
    assert f"--grpc-server-cert {files.certificate}" in said


@pytest.mark.parametrize(
    ("protocol", "variable"),
    [("http", "SSL_CERT_FILE"), ("grpc", "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH")],
)
def test_measuring_says_how_to_trust_a_certificate_that_it_refuses(
    secured: Server, files: Files, protocol: str, variable: str
) -> None:
    command = [
        *(sys.executable, "-m", "penstock", "bench", f"{protocol}s://{getattr(secured, protocol)}"),
        *("echo", "--concurrency=1", "--requests=5", "--warm-up=0"),
    ]

    def measure(trusted: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command,
            cwd=ROOT,
            env=environment(trusted),
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    refused = measure({})
    assert refused.returncode == 1
    assert f"by the variable {variable}" in refused.stderr
    assert measure({variable: str(files.root)}).returncode == 0
