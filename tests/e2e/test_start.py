"""A server that cannot do what it was told says what is wrong, where, and ends with exit code 1."""

import json
import os
import re
import shutil
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.e2e.repositories import add_identity
from tests.e2e.server import REPOSITORY, Server, failed_start, penstock_server

Edit = Callable[[Path], Any]


@pytest.fixture
def digits_copy(tmp_path: Path) -> Path:
    """A repository of its own with digits-mlp in it."""
    shutil.copytree(REPOSITORY / "digits-mlp", tmp_path / "digits-mlp")
    return tmp_path


@pytest.mark.parametrize("protocol", ["http", "grpc", "metrics"])
def test_a_port_in_use_is_named_with_its_flag(tmp_path: Path, protocol: str) -> None:
    add_identity(tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        said = failed_start(f"--{protocol}-port={port}", repository=tmp_path)
    assert f"cannot listen on 127.0.0.1:{port}: " in said
    assert f"choose another with --{protocol}-port" in said


@pytest.mark.parametrize("address", ["8.8.8.8", "a..b"])
def test_an_address_that_is_none_of_this_machine_is_named_with_its_flag(
    tmp_path: Path, address: str
) -> None:
    add_identity(tmp_path)
    said = failed_start(f"--grpc-address={address}", repository=tmp_path)
    assert f"cannot listen on {address}:0: " in said
    assert "name an address of this machine with --grpc-address" in said


def empty(repository: Path) -> None:
    shutil.rmtree(repository / "digits-mlp")


def no_versions(repository: Path) -> None:
    shutil.rmtree(repository / "digits-mlp" / "1")


def broken_model(repository: Path) -> None:
    (repository / "digits-mlp" / "1" / "model.onnx").write_bytes(b"no graph")


def no_model(repository: Path) -> None:
    (repository / "digits-mlp" / "1" / "model.onnx").unlink()


def pipe(repository: Path) -> None:
    (repository / "digits-mlp" / "config.pbtxt").unlink()
    os.mkfifo(repository / "digits-mlp" / "config.pbtxt")


def unpacked(repository: Path) -> None:
    """What lies in the model's folder, where the folder itself was to be."""
    (repository / "digits-mlp" / "1").rename(repository / "1")
    shutil.rmtree(repository / "digits-mlp")


def edit_config(old: str, new: str) -> Edit:
    def edit(repository: Path) -> None:
        config = repository / "digits-mlp" / "config.pbtxt"
        text = config.read_text()
        assert old in text
        config.write_text(text.replace(old, new, 1))

    return edit


BROKEN: dict[str, tuple[Edit, str]] = {
    "an empty repository": (
        empty,
        r"{0}: no model to serve; expected NAME/VERSION/model.onnx, as penstock export writes it",
    ),
    "a missing repository": (shutil.rmtree, r"{0}: no such folder; create it, or name another"),
    "a model without versions": (
        no_versions,
        r"failed to load 'digits-mlp': {0}/digits-mlp: no version to serve: the folder has none",
    ),
    "a version without a model": (
        no_model,
        r"{0}/digits-mlp/1/model.onnx: no such file; a version folder holds the model's file",
    ),
    "a broken model": (
        broken_model,
        r"{0}/digits-mlp/1/model.onnx: ONNX Runtime .*cannot load it: ",
    ),
    "a pipe, which nobody may ever write to": (
        pipe,
        r"{0}/digits-mlp/config.pbtxt: is a pipe, socket or device; replace it by a file",
    ),
    "a model's folder in place of the repository": (
        unpacked,
        r"{0}/1: no version .*; is the repository rather the folder that the model lies in\?",
    ),
    "a configuration that is none": (
        edit_config("max_batch_size: 64", "max_batch_size = 64"),
        r"{0}/digits-mlp/config.pbtxt:5",
    ),
    "a field that does not exist": (
        edit_config("max_batch_size:", "max_batchsize:"),
        r"{0}/digits-mlp/config.pbtxt:5.*max_batchsize",
    ),
    "a field that is not honoured": (
        edit_config("max_batch_size: 64", "max_batch_size: 64 model_repository_agents { }"),
        r"{0}/digits-mlp/config.pbtxt:5.*'model_repository_agents' is not honoured by the embedded "
        "engine",
    ),
    "a shape that the graph has not": (
        edit_config("dims: [64]", "dims: [65]"),
        r"{0}/digits-mlp/config.pbtxt:9.*65",
    ),
}


@pytest.mark.parametrize(("edit", "message"), BROKEN.values(), ids=BROKEN.keys())
def test_what_cannot_be_served_is_named_with_its_place(
    digits_copy: Path, edit: Edit, message: str
) -> None:
    edit(digits_copy)
    said = failed_start(repository=digits_copy)
    place = re.escape(str(digits_copy))
    assert re.search(message.format(place), said), said
    assert "Error: " in said


def test_every_fault_of_every_model_is_told_at_once(digits_copy: Path) -> None:
    broken_model(digits_copy)
    add_identity(digits_copy, "also-broken", more="nonsense: 1")
    add_identity(digits_copy, "fine")
    said = failed_start(repository=digits_copy)
    assert "failed to load 'digits-mlp': " in said
    assert "failed to load 'also-broken': " in said
    assert "failed to load 'fine'" not in said


@pytest.mark.parametrize("strict", [True, False])
def test_without_exit_on_error_the_rest_is_served(digits_copy: Path, strict: bool) -> None:
    broken_model(digits_copy)
    add_identity(digits_copy, "fine")
    flags = ("--exit-on-error=false", f"--strict-readiness={str(strict).lower()}")
    with (
        penstock_server(*flags, repository=digits_copy) as server,
        httpx.Client(base_url=server.url) as rest,
    ):
        # Ready may mean every model, or whatever there is.
        assert rest.get("/v2/health/ready").status_code == (400 if strict else 200)
        assert rest.get("/v2/models/fine/ready").status_code == 200
        assert rest.get("/v2/models/digits-mlp/ready").status_code == 400
        failed, fine = rest.post("/v2/repository/index").json()
        assert fine == {"name": "fine", "version": "1", "state": "READY"}
        assert (failed["name"], failed["state"]) == ("digits-mlp", "UNAVAILABLE")
        assert "it is no ONNX model" in failed["reason"]
        assert rest.post("/v2/repository/index", json={"ready": True}).json() == [fine]
        answer = rest.post("/predict/digits-mlp", json=[0] * 64)
        assert answer.status_code == 404
        assert answer.json() == {
            "error": "Request for unknown model: 'digits-mlp' has no available versions"
        }
        assert rest.post("/predict/fine", json=[7]).json()["outputs"]["y"]["data"] == [7.0]
        assert any("ERROR" in line and "digits-mlp" in line for line in server.log)


def tamper(repository: Path) -> str:
    """Another accuracy's graph under the old passport; gives what the graph's SHA-256 was."""
    passport = json.loads((repository / "digits-mlp" / "1" / "passport.json").read_text())
    graph = repository / "digits-mlp" / "1" / "model.onnx"
    content = bytearray(graph.read_bytes())
    content += b"\x7a\x00"  # an empty field that no reader knows: the graph works as before
    graph.write_bytes(content)
    return str(passport["files"]["model.onnx"])


def test_a_graph_that_is_not_the_passports_is_served_with_a_warning(digits_copy: Path) -> None:
    proven = tamper(digits_copy)
    with penstock_server(repository=digits_copy) as server:
        [warning] = [line for line in server.log if "WARNING" in line]
        assert "model 'digits-mlp' version 1: model.onnx: SHA-256 is " in warning
        assert f"the passport says {proven}" in warning
        assert predicted(server) == "0"


def test_where_a_passport_is_required_such_a_graph_is_refused(digits_copy: Path) -> None:
    proven = tamper(digits_copy)
    said = failed_start("--passport-policy=require", repository=digits_copy)
    assert "model 'digits-mlp' version 1: model.onnx: SHA-256 is " in said
    assert f"the passport says {proven}" in said
    assert "a passport is required: publish the version with penstock export" in said


def test_where_a_passport_is_required_none_is_refused_too(digits_copy: Path) -> None:
    (digits_copy / "digits-mlp" / "1" / "passport.json").unlink()
    said = failed_start("--passport-policy=require", repository=digits_copy)
    assert "it has no passport.json, so nothing is proven of it" in said


def test_the_committed_models_carry_the_passports_that_are_required() -> None:
    with penstock_server("--passport-policy=require") as server:
        assert predicted(server) == "0"
        assert not [line for line in server.log if "WARNING" in line]


def test_a_model_without_a_passport_has_none_to_show(digits_copy: Path) -> None:
    (digits_copy / "digits-mlp" / "1" / "passport.json").unlink()
    with penstock_server("--passport-policy=off", repository=digits_copy) as server:
        answer = httpx.get(f"{server.url}/v2/models/digits-mlp/passport")
        assert answer.status_code == 404
        assert answer.json() == {"error": "model 'digits-mlp' version 1 has no passport"}
        assert not [line for line in server.log if "WARNING" in line]


def predicted(server: Server) -> str:
    """The label of a zero."""
    document = httpx.get(f"{server.url}/openapi.json").json()
    example = document["paths"]["/predict/{model}"]["post"]["requestBody"]["content"]
    answer = httpx.post(
        f"{server.url}/predict/digits-mlp", json=example["application/json"]["example"]
    )
    return str(answer.json()["predictions"][0]["label"])
