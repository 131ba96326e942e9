"""Restricted parts of the protocols want their header, alike from every client."""

from collections.abc import Iterator
from typing import Any, Final

import httpx
import numpy as np
import pytest
from tritonclient.utils import InferenceServerException

from serving.restrictions import Group
from tests.e2e.clients import CLIENTS, Client, connect
from tests.e2e.repositories import add_identity
from tests.e2e.server import Server, penstock_server

# One flag each, with a key of its own.
GROUPS: Final = [group.value for group in Group if group is not Group.DOCUMENTATION]
CALLS: Final[dict[str, tuple[Any, ...]]] = {
    "health": ("is_model_ready", "echo"),
    "metadata": ("get_model_metadata", "echo"),
    "shared-memory": ("get_system_shared_memory_status",),
    "model-config": ("get_model_config", "echo"),
    "model-repository": ("get_model_repository_index",),
    "statistics": ("get_inference_statistics",),
    "trace": ("get_trace_settings",),
    "logging": ("get_log_settings",),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("repository")
    add_identity(folder)
    flags = [
        f"--{flag}={group}:{group}-key=opens {group}"
        for flag in ("http-restricted-api", "grpc-restricted-protocol")
        for group in GROUPS
    ]
    with penstock_server(*flags, repository=folder) as running:
        yield running


def header(client: Client, group: str, value: str = "") -> dict[str, str]:
    prefix = "triton-grpc-protocol-" if client.is_grpc else ""
    return {f"{prefix}{group}-key": value or f"opens {group}"}


async def call(client: Client, group: str, headers: dict[str, str] | None) -> Any:
    if group != "inference":
        return await client.call(*CALLS[group], headers=headers)
    return await client.infer("echo", {"x": np.zeros((1, 1), np.float32)}, headers=headers)


@pytest.mark.parametrize("group", GROUPS)
@pytest.mark.parametrize("name", CLIENTS)
async def test_every_client_opens_each_group_with_its_header(
    server: Server, name: str, group: str
) -> None:
    async with connect(name, server) as client:
        await call(client, group, header(client, group))


@pytest.mark.parametrize("group", [group for group in GROUPS if group != "health"])
@pytest.mark.parametrize("name", CLIENTS)
async def test_without_it_or_with_another_value_it_stays_closed(
    server: Server, name: str, group: str
) -> None:
    async with connect(name, server) as client:
        key = next(iter(header(client, group)))
        noun, status = ("protocol", "StatusCode.UNAVAILABLE") if client.is_grpc else ("API", "403")
        for headers in ({}, header(client, group, "opens"), header(client, "health")):
            with pytest.raises(InferenceServerException) as error:
                await call(client, group, headers)
            assert str(error.value.status()) == status
            assert error.value.message() == f"This {noun} is restricted, expecting header '{key}'"


def test_health_can_be_restricted_and_the_rest_is_not_there_still(server: Server) -> None:
    for path in ("/v2/health/live", "/v2/health/ready", "/v2/models/echo/ready"):
        answer = httpx.get(server.url + path)
        assert answer.status_code == 403
        assert answer.json() == {
            "error": "This API is restricted, expecting header 'health-key'",
        }
    assert httpx.get(f"{server.url}/v2/models/echo/other").status_code == 404
    # As Triton has it, who may not call is told so before how it is called.
    assert httpx.delete(f"{server.url}/v2/models/echo/infer").status_code == 403
