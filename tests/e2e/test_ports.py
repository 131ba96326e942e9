"""Where a server listens: on ports that others may share if they wish, and metrics beside REST."""

import signal
import socket
from pathlib import Path

import httpx
import pytest
import tritonclient.grpc

from bench.peers.base import free_ports
from tests.e2e.repositories import add_identity
from tests.e2e.server import STOPPING, failed_start, penstock_server


@pytest.mark.parametrize("protocol", ["http", "grpc"])
def test_servers_share_a_port_if_both_wish_it(tmp_path: Path, protocol: str) -> None:
    add_identity(tmp_path)
    [port] = free_ports(1)
    flags = (f"--reuse-{protocol}-port=true", f"--{protocol}-port={port}")
    with (
        penstock_server(*flags, repository=tmp_path) as first,
        penstock_server(*flags, repository=tmp_path) as second,
    ):
        assert getattr(first, protocol) == getattr(second, protocol)
    said = failed_start_beside(tmp_path, protocol, flags)
    assert "cannot listen on 127.0.0.1" in said


@pytest.mark.parametrize("implementation", ["own", "grpcio"])
def test_a_server_listens_on_addresses_of_ipv6_and_names_them_as_clients_do(
    tmp_path: Path, implementation: str
) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError as error:
        pytest.skip(f"no IPv6 here: {error}")
    add_identity(tmp_path)
    flags = [f"--{protocol}-address=::1" for protocol in ("http", "grpc", "metrics")]
    flags.append(f"--grpc-implementation={implementation}")
    with penstock_server(*flags, repository=tmp_path) as server:
        assert httpx.get(f"{server.url}/v2/health/ready").status_code == 200
        assert httpx.get(f"http://{server.metrics}/metrics").status_code == 200
        with tritonclient.grpc.InferenceServerClient(server.grpc) as client:
            assert client.is_server_ready()


def failed_start_beside(repository: Path, protocol: str, flags: tuple[str, str]) -> str:
    """What a server says that does not wish it, beside one that does."""
    with penstock_server(*flags, repository=repository):
        return failed_start(flags[1], repository=repository)


def test_metrics_listen_where_rest_does_and_the_server_bears_its_name(tmp_path: Path) -> None:
    add_identity(tmp_path)
    flags = ("--metrics-address=", "--id=here")
    with penstock_server(*flags, repository=tmp_path) as server:
        assert server.metrics.startswith("127.0.0.1:")
        assert httpx.get(f"http://{server.metrics}/metrics").status_code == 200
        assert httpx.get(f"{server.url}/v2").json()["name"] == "here"


def test_probes_are_answered_beside_the_metrics_as_rest_answers_them(tmp_path: Path) -> None:
    add_identity(tmp_path)
    flags = ("--model-control-mode=explicit", "--load-model=echo", "--exit-grace-secs=60")
    with penstock_server(*flags, repository=tmp_path) as server:
        live, ready = (f"http://{server.metrics}/v2/health/{kind}" for kind in ("live", "ready"))
        assert [httpx.get(url).json() for url in (live, ready)] == [{"live": True}, {"ready": True}]
        server.send(signal.SIGTERM)
        server.wait_for(STOPPING)
        assert [httpx.get(url).status_code for url in (live, ready)] == [200, 400]
        server.send(signal.SIGTERM)
        server.wait()
