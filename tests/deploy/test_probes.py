"""The probes of the manifests mean what they say, asked of a real server as a kubelet asks."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import httpx
import pytest

from serving.command import serve
from tests.deploy.manifests import FOLDER, Object, documents
from tests.e2e.certificates import Authority
from tests.e2e.repositories import add_identity
from tests.e2e.server import Server, penstock_server, starting_server

PROBES: Final = ("startupProbe", "livenessProbe", "readinessProbe")
FILES: Final = ("base/deployment.yaml", "overlays/kserve/runtime.yaml")


def container_of(file: str) -> Object:
    [document] = documents(FOLDER / file)
    spec = document["spec"]
    [container] = spec.get("template", {}).get("spec", spec)["containers"]
    found: Object = container
    return found


def port_of(container: Object, probe: str) -> int:
    """The port's number, whether it is named or not."""
    port = container[probe]["httpGet"]["port"]
    numbers = {each["name"]: each["containerPort"] for each in container["ports"]}
    found: int = numbers.get(port, port)
    return found


def asked(server: Server, container: Object, probe: str) -> int:
    """What the server answers to the probe."""
    path = container[probe]["httpGet"]["path"]
    return httpx.get(f"http://{server.metrics}{path}").status_code


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """As secured as it gets: neither REST nor gRPC would let a kubelet in."""
    folder = tmp_path_factory.mktemp("probes")
    files = Authority().issue(folder)
    keys = folder / "keys"
    keys.write_text("someone 0123456789abcdef\n")
    repository = folder / "repository"
    add_identity(repository)
    flags = [*files.flags("http", mutual=True), *files.flags("grpc", mutual=True)]
    with penstock_server(*flags, f"--api-keys-file={keys}", repository=repository) as running:
        yield running


@pytest.mark.parametrize("probe", PROBES)
@pytest.mark.parametrize("file", FILES)
def test_a_probe_gets_through_to_a_server_that_serves(
    server: Server, file: str, probe: str
) -> None:
    assert asked(server, container_of(file), probe) == 200


@pytest.mark.parametrize("probe", PROBES)
@pytest.mark.parametrize("file", FILES)
def test_a_probe_asks_the_port_of_metrics(file: str, probe: str) -> None:
    container = container_of(file)
    arguments = container["args"][1:]
    assert (
        port_of(container, probe) == serve.make_context("serve", arguments).params["metrics_port"]
    )


def test_a_model_that_cannot_be_served_costs_readiness_and_not_the_life(tmp_path: Path) -> None:
    add_identity(tmp_path)
    (tmp_path / "broken" / "1").mkdir(parents=True)
    with starting_server("--exit-on-error=false", repository=tmp_path) as server:
        server.wait_for("broken")
        for file in FILES:
            answers = [asked(server, container_of(file), probe) for probe in PROBES]
            assert answers == [200, 200, 400], file
