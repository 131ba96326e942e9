"""The log settings through the official clients, and what they do to a running server's log."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from tritonclient.utils import InferenceServerException

from tests.e2e.clients import Client, connect
from tests.e2e.repositories import add_identity
from tests.e2e.server import Server, failed_start, penstock_server

CHANGES: list[dict[str, Any]] = [
    {"log_verbose_level": 1},
    {"log_info": False, "log_warning": False, "log_error": False},
    {"log_format": "ISO8601"},
]
DEFAULTS = {
    "log_file": "",
    "log_info": True,
    "log_warning": True,
    "log_error": True,
    "log_verbose_level": 0,
    "log_format": "default",
}


@pytest.fixture(scope="module")
def talking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    repository = tmp_path_factory.mktemp("repository")
    add_identity(repository)
    with penstock_server(repository=repository) as server:
        yield server


def values(client: Client, answer: Any) -> Any:
    if not client.is_grpc:
        return answer
    return {
        name: next(value for key, value in setting.items() if key.endswith("_param"))
        for name, setting in answer["settings"].items()
    }


@pytest.mark.parametrize("name", ["http", "grpc", "http.aio", "grpc.aio"])
@pytest.mark.parametrize("changes", CHANGES)
async def test_settings_change_and_stay(
    talking: Server, name: str, changes: dict[str, Any]
) -> None:
    async with connect(name, talking) as client:
        assert values(client, await client.call("get_log_settings")) == DEFAULTS
        changed = values(client, await client.call("update_log_settings", changes))
        assert changed == DEFAULTS | changes
        assert values(client, await client.call("get_log_settings")) == changed
        before = {key: DEFAULTS[key] for key in changes}
        assert values(client, await client.call("update_log_settings", before)) == DEFAULTS


async def test_a_setting_that_is_none_is_refused(client: Client) -> None:
    with pytest.raises(InferenceServerException, match="log_colour: no log setting"):
        await client.call("update_log_settings", {"log_colour": True})
    with pytest.raises(InferenceServerException, match="log file location can not be updated"):
        await client.call("update_log_settings", {"log_file": "/tmp/x"})


async def test_the_server_says_that_it_can(client: Client) -> None:
    assert "logging" in (await client.call("get_server_metadata"))["extensions"]


def test_requests_are_logged_while_the_level_says_so(tmp_path: Path) -> None:
    add_identity(tmp_path)
    with penstock_server(repository=tmp_path) as server:
        with httpx.Client(base_url=server.url) as rest:
            rest.get("/v2/models/before")
            rest.post("/v2/logging", json={"log_verbose_level": 1, "log_format": "ISO8601"})
            rest.get("/v2/models/during")
            rest.post("/v2/logging", json={"log_verbose_level": 0})
            rest.get("/v2/models/after")
        assert server.stop() == 0
    requests = [line for line in server.log if "penstock.access" in line]
    assert [re.findall(r"/v2/\S+", line) for line in requests] == [["/v2/models/during"]]
    assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z INFO ", requests[0])


def test_the_log_may_go_to_a_file(tmp_path: Path) -> None:
    add_identity(tmp_path / "repository")
    file = tmp_path / "penstock.log"
    # The harness reads the addresses from the log, so what is started here fails to start.
    said = failed_start(
        f"--log-file={file}", "--http-port=1", "--http-address=192.0.2.1", repository=tmp_path
    )
    assert "cannot listen on 192.0.2.1:1" in said
    assert file.exists()
