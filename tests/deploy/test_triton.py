"""Triton as the overlay `triton` runs it: what a real one makes of the manifest's flags."""

import time
from pathlib import Path
from typing import Any, Final

import httpx

from tests import adders
from tests.deploy.manifests import FOLDER, documents
from tests.e2e.server import START_SECONDS
from tests.triton.server import triton_server

# What the test says of the place and the pace itself.
OWN: Final = "--model-repository"
# Between two looks: whoever asks without a pause keeps a processor from what is awaited.
PAUSE: Final = 0.05


def container() -> dict[str, Any]:
    [deployment, *_] = documents(FOLDER / "overlays" / "triton" / "triton.yaml")
    [found] = deployment["spec"]["template"]["spec"]["containers"]
    return dict(found)


def test_a_model_that_loads_or_cannot_be_loaded_takes_no_replica_out_of_service(
    tmp_path: Path,
) -> None:
    adders.add(tmp_path, "good", 1)
    triton = container()
    _, *flags = [flag for flag in triton["args"] if not flag.startswith(OWN)]
    probe = triton["readinessProbe"]["httpGet"]["path"]

    with (
        triton_server(tmp_path, *flags, "--repository-poll-secs=1") as running,
        httpx.Client(base_url=f"http://{running.http}") as client,
    ):
        broken = adders.add(tmp_path, "broken", 1)
        (broken / "1" / "model.onnx").write_bytes(adders.BROKEN)
        states: set[str] = set()
        deadline = time.monotonic() + START_SECONDS
        while "UNAVAILABLE" not in states and time.monotonic() < deadline:
            assert client.get(probe).status_code == 200
            index = client.post("/v2/repository/index").json()
            states |= {one.get("state", "") for one in index if one["name"] == "broken"}
            time.sleep(PAUSE)

        assert "UNAVAILABLE" in states
        assert client.get(probe).status_code == 200
