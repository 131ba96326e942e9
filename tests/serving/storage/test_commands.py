"""`penstock serve` and `penstock validate` over a bucket, as real processes run them."""

import os
import pty
import resource
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from click.testing import CliRunner, Result

from serving.validate.command import validate
from tests import adders
from tests.e2e.server import ROOT, failed_start, penstock_server, starting_server
from tests.serving.storage.s3 import Bucket

CONFIG: Final = """\
backend: "onnxruntime"
input { name: "x" data_type: TYPE_FP32 dims: [ -1, 1 ] }
output { name: "y" data_type: TYPE_FP32 dims: [ -1, 1 ] }
"""
POLLING: Final = ("--model-control-mode=poll", "--repository-poll-secs=1")


@pytest.fixture(autouse=True)
def _model(bucket: Bucket) -> None:
    bucket.put("a/config.pbtxt", CONFIG)
    bucket.put("a/1/model.onnx", adders.graph(1))
    bucket.server.requests.clear()


@pytest.fixture
def local(tmp_path: Path) -> Path:
    """A repository without models, beside the bucket."""
    (tmp_path / "local").mkdir()
    return tmp_path / "local"


def flags(bucket: Bucket, cache: Path, *more: str) -> Sequence[str]:
    return (
        f"--model-repository={bucket.url}",
        f"--model-repository-cache={cache}",
        "--passport-policy=off",
        *more,
    )


def answer(url: str) -> float:
    x = {"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [0]}
    response = httpx.post(f"{url}/v2/models/a/infer", json={"inputs": [x]}, timeout=60)
    return float(response.raise_for_status().json()["outputs"][0]["data"][0])


def check(*arguments: object) -> Result:
    return CliRunner().invoke(validate, [str(one) for one in arguments])


def penstock(*arguments: object, **options: Any) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "penstock", *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
        **options,
    )


def test_a_server_follows_its_bucket_and_outlives_its_absence(
    bucket: Bucket, cache: Path, local: Path
) -> None:
    with penstock_server(*flags(bucket, cache, *POLLING), repository=local) as server:
        assert answer(server.url) == 1
        server.wait_for(f"penstock.storage: fetched {bucket.url}/a: ")
        bucket.server.stop()
        try:
            server.wait_for("the repositories cannot be polled: .*the store does not answer")
            assert answer(server.url) == 1
        finally:
            bucket.server.start()
        bucket.put("a/2/model.onnx", adders.graph(2))
        server.wait_for("loaded a version 2")
        assert answer(server.url) == 2
        assert server.stop() == 0
    assert list((cache / "trees").iterdir()) == []


def test_a_server_starts_again_from_what_it_has_fetched(
    bucket: Bucket, cache: Path, local: Path
) -> None:
    for _ in range(2):
        with penstock_server(*flags(bucket, cache), repository=local) as server:
            assert answer(server.url) == 1
    assert len(bucket.server.requests) == 2


def test_a_server_that_is_stopped_while_it_fetches_stops(
    bucket: Bucket, cache: Path, local: Path
) -> None:
    fetching, stopping = threading.Event(), threading.Event()

    def hold(method: str, path: str, byte_range: str) -> None:
        if byte_range:
            fetching.set()
            assert stopping.wait(60)

    bucket.server.hook = hold
    with starting_server(*flags(bucket, cache), repository=local) as server:
        assert fetching.wait(60)
        server.send(signal.SIGTERM)
        server.wait_for("stopping")
        stopping.set()
        assert server.wait() == 0


def test_a_server_whose_store_is_silent_stops_without_it(
    bucket: Bucket, cache: Path, local: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Seconds: more than anybody waits for a server to stop.
    monkeypatch.setenv("FSSPEC_S3", '{"config_kwargs": {"read_timeout": 600}}')
    asked, ended = threading.Event(), threading.Event()

    def say_nothing(*_: str) -> None:
        asked.set()
        ended.wait()

    bucket.server.hook = say_nothing
    with starting_server(*flags(bucket, cache), repository=local) as server:
        try:
            assert asked.wait(60)
            assert server.stop() == 0
        finally:
            ended.set()


def test_a_store_that_is_away_at_the_start_ends_it(bucket: Bucket, cache: Path) -> None:
    bucket.server.stop()
    try:
        said = failed_start(*flags(bucket, cache))
    finally:
        bucket.server.start()
    assert f"Error: {bucket.url}: the store does not answer" in said


def test_without_the_package_the_extra_is_named(cache: Path) -> None:
    program = (
        "import sys; sys.modules['s3fs'] = None\n"
        "import penstock; penstock.main(['validate', 's3://bucket', *sys.argv[1:]])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, f"--model-repository-cache={cache}"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 1
    assert "pip install 'penstock[s3]'" in " ".join(done.stdout.split())


def test_a_bucket_is_checked_as_a_folder_is(bucket: Bucket, cache: Path) -> None:
    in_cache = f"--model-repository-cache={cache}"
    good = check(bucket.url, in_cache, "--passport-policy=off")
    assert good.exit_code == 0, good.output
    bucket.put("b/config.pbtxt", CONFIG.replace("FP32", "INT8"))
    bucket.put("b/1/model.onnx", adders.graph(1))
    bucket.put("b/labels.txt", "")
    bucket.put("b/LABELS.txt", "")
    bucket.put("model.onnx", "")
    missing = f"{bucket.url}-not"
    bad = check(bucket.url, missing, in_cache, "--passport-policy=off", "--format=json")
    assert bad.exit_code == 1
    for words in (
        f'"file": "{bucket.url}/b/config.pbtxt"',
        f'"file": "{bucket.url}/b/labels.txt"',
        "differs from 'b/LABELS.txt' by case alone",
        f'"file": "{bucket.url}/model.onnx"',
        f'"file": "{missing}"',
    ):
        assert words in bad.stdout
    assert str(cache) not in bad.stdout


def test_whoever_looks_on_sees_how_far_it_is(bucket: Bucket, cache: Path) -> None:
    ours, theirs = pty.openpty()
    shown: list[bytes] = []

    def watch() -> None:
        while True:
            try:
                shown.append(os.read(ours, 65536))
            except OSError:  # which is how a terminal ends
                return

    watching = threading.Thread(target=watch)
    watching.start()
    command = [sys.executable, "-m", "penstock", "validate", bucket.url]
    subprocess.run(
        [*command, f"--model-repository-cache={cache}", "--passport-policy=off"],
        cwd=ROOT,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "200"},
        stdout=subprocess.DEVNULL,
        stderr=theirs,
        timeout=100,
        check=True,
    )
    os.close(theirs)
    watching.join(60)
    os.close(ours)
    assert bucket.url in b"".join(shown).decode()
    assert "━" in b"".join(shown).decode()


def test_a_disk_that_takes_no_more_is_told(bucket: Bucket, cache: Path) -> None:
    bucket.put("a/1/large", bytes(200_000))

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))

    done = penstock("validate", bucket.url, f"--model-repository-cache={cache}", preexec_fn=limit)
    assert done.returncode == 1
    told = " ".join(done.stdout.split())  # where a line ends depends on the folder's name
    assert "File too large" in told
    assert "--model-repository-cache" in told
