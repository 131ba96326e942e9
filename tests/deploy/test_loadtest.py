"""Locust asks a real server in every way, looks at the answers, and tells by its exit code."""

import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

import numpy as np
import pytest

from tests.e2e.certificates import Authority
from tests.e2e.server import (
    READY,
    REPOSITORY,
    ROOT,
    Server,
    environment,
    penstock_server,
    starting_server,
)

KIT: Final = ROOT / "deploy" / "locust"
USERS: Final = ("GrpcUser", "ImageUser", "RestBinaryUser", "RestJsonUser", "StreamUser")
KINDS: Final = ("gRPC", "image upload", "REST binary", "REST JSON", "stream", "first event")


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    arguments = (
        f"--model-repository={KIT / 'models'}",
        "--model-control-mode=explicit",
        "--load-model=mnist-cnn",
        "--load-model=repeat",
    )
    with starting_server(*arguments, repository=REPOSITORY) as running:
        running.wait_for(READY)
        yield running


def locust(
    server: Server,
    *arguments: str,
    code: int = 0,
    scheme: str = "http",
    variables: Mapping[str, str] | None = None,
) -> str:
    """What a short run says that ends with that exit code."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "locust", f"--locustfile={KIT / 'locustfile.py'}"),
            *("--headless", "--only-summary", f"--host={scheme}://{server.http}"),
            *(f"--grpc-host={server.grpc}", *arguments),
        ],
        cwd=ROOT,
        env=environment(variables),
        capture_output=True,
        text=True,
        check=False,
        timeout=100,
    )
    assert done.returncode == code, f"{done.stdout}\n{done.stderr}"
    return done.stdout + done.stderr


def test_an_open_loop_of_every_kind_of_user_gets_right_answers(
    server: Server, tmp_path: Path
) -> None:
    report = tmp_path / "report.html"
    objectives = ("--slo=errors=0", "--slo=p99=99s")
    told = locust(
        server, "-u5", "--rate=50", "--rows=2", f"--html={report}", "--run-time=2s", *objectives
    )

    for kind in KINDS:
        assert re.search(rf"^{kind} .* 0\(0\.00%\)", told, re.MULTILINE), told
    assert "SLO met     p99=99s" in told
    page = report.read_text(encoding="utf-8")
    assert all(kind in page for kind in KINDS)


def test_other_values_than_expected_miss_an_objective(server: Server, tmp_path: Path) -> None:
    with np.load(KIT / "samples" / "mnist-cnn.npz") as file:
        arrays = dict(file)
    arrays["probabilities"] = 1 - arrays["probabilities"]
    np.savez(tmp_path / "wrong.npz", **arrays)
    users = ("GrpcUser", "RestJsonUser", "ImageUser")
    options = ("-t1s", "-u3", "-r3", "--slo=errors=50%", f"--samples={tmp_path / 'wrong.npz'}")

    told = locust(server, *options, *users, code=1)

    assert "SLO missed  errors=50%: 100 %" in told
    for kind in ("gRPC", "REST JSON", "image upload"):
        assert re.search(rf"{kind} mnist-cnn: .*WrongAnswer\(.*than expected", told), told


def test_a_server_with_keys_and_a_certificate_of_its_own_is_asked(tmp_path: Path) -> None:
    files = Authority().issue(tmp_path)
    key = "0123456789abcdef"
    (tmp_path / "keys").write_text(f"load {key}\n")
    flags = (*files.flags("http"), *files.flags("grpc"), f"--api-keys-file={tmp_path / 'keys'}")
    named = dict.fromkeys(("SSL_CERT_FILE", "GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"), str(files.root))
    users = ("GrpcUser", "RestBinaryUser", "ImageUser")

    models = ("--model-control-mode=explicit", "--load-model=mnist-cnn")
    with penstock_server(*models, *flags) as secured:
        told = locust(
            secured,
            *("-t1s", "-u3", "-r3", *users),
            scheme="https",
            variables=named | {"LOCUST_API_KEY": key},
        )

    for kind in ("gRPC", "REST binary", "image upload"):
        assert re.search(rf"^{kind} .* 0\(0\.00%\)", told, re.MULTILINE), told
    assert key not in told


def test_a_test_with_nothing_to_ask_ends_at_once(server: Server) -> None:
    told = locust(server, "-t60s", "GrpcUser", "--model=nobody", code=2)

    assert "'nobody' is not found" in told


@pytest.mark.parametrize("names", [(), ("logits", "probabilities")])
def test_images_are_not_asked_with_samples_that_cannot_be_held_against_answers(
    server: Server, tmp_path: Path, names: tuple[str, ...]
) -> None:
    with np.load(KIT / "samples" / "mnist-cnn.npz") as file:
        arrays = {"image": file["image"]} | dict.fromkeys(names, file["probabilities"])
    np.savez(tmp_path / "samples.npz", **arrays)

    told = locust(server, "-t60s", "ImageUser", f"--samples={tmp_path / 'samples.npz'}", code=2)

    assert f"one output of the samples, not {', '.join(names) or 'none'}" in told


def test_a_stream_is_not_asked_of_a_model_that_makes_none(server: Server) -> None:
    told = locust(server, "-t60s", "StreamUser", "--stream-model=mnist-cnn", code=2)

    assert "'mnist-cnn' takes image, and not DELAY, IN, WAIT" in told
