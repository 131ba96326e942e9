"""The server does what its OpenAPI document says, whatever it is sent; tried by schemathesis.

For longer: `st --config-file tests/e2e/schemathesis.toml run URL/openapi.json --max-examples 500`
against a server in explicit mode, which has the model `spare`.
"""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import httpx
import jsonschema_rs
import pytest

from tests.e2e.server import REPOSITORY, Server, penstock_server

CONFIG: Final = Path(__file__).with_name("schemathesis.toml")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One whose clients may do all that there is."""
    repository = tmp_path_factory.mktemp("repository")
    shutil.copytree(REPOSITORY / "digits-mlp", repository / "digits-mlp")
    shutil.copytree(REPOSITORY / "digits-mlp" / "1", repository / "spare" / "1")
    (repository / "spare" / "1" / "passport.json").unlink()
    with penstock_server(
        "--model-control-mode=explicit",
        "--load-model=*",
        "--allow-client-shm=true",
        f"--http-max-input-size={1024 * 1024}",
        repository=repository,
    ) as running:
        yield running


@pytest.mark.timeout(600)
def test_no_request_is_answered_otherwise_than_the_document_says(
    server: Server, tmp_path: Path
) -> None:
    tried = subprocess.run(
        [
            *(sys.executable, "-m", "schemathesis.cli", "--config-file", str(CONFIG)),
            *("run", f"{server.url}/openapi.json", "--seed=0", "--max-examples=5", "--no-color"),
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert tried.returncode == 0, tried.stdout + tried.stderr
    assert not [line for line in server.log if " ERROR " in line or "Traceback" in line]


def test_every_example_has_the_form_that_is_documented(server: Server) -> None:
    document = httpx.get(f"{server.url}/openapi.json").json()
    checked = 0
    for path in document["paths"].values():
        for operation in path.values():
            bodies = [*operation["responses"].values(), operation.get("requestBody", {})]
            for content in (body.get("content", {}) for body in bodies):
                for described in content.values():
                    if "example" in described:
                        schema = described["schema"] | {"components": document["components"]}
                        jsonschema_rs.validate(schema, described["example"])
                        checked += 1
    assert checked > 100
