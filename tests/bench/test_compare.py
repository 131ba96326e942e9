"""A real comparison, as short as can be: the servers answer right, and a record is left."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bench import compare, models, record
from bench.lineup import PICTURE, Absent
from bench.machine import Unavailable
from bench.peers import environments
from tests.bench import needs
from tests.e2e.server import REPOSITORY, ROOT

PUBLISHED = REPOSITORY / "mnist-cnn" / "1" / "model.onnx"


@needs.processors
@needs.tools
def test_a_short_run_measures_everyone_and_leaves_a_record(tmp_path: Path) -> None:
    flags = ["--only", "rest-binary", "grpc", "starts", "--against", "raw", "--connections=2"]
    flags += ["--rounds=1", "--seconds=1", "--save=it", f"--results={tmp_path}"]
    done = subprocess.run(
        [sys.executable, "-m", "bench.compare", *flags],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    record = json.loads((tmp_path / "it.json").read_text())
    assert record["hardware"]
    assert record["versions"]["ours and fastapi"]["onnxruntime"]
    assert [each["kind"] for each in record["cases"]] == ["rest-binary", "grpc"]
    assert record["starts"].keys() == {"ours", "ours, committed models"}
    assert all(len(seconds) == 1 for seconds in record["starts"].values())
    for measured in record["cases"]:
        assert measured["windows"].keys() == {"ours", "raw"}
        for (window,) in measured["windows"].values():
            assert window["requests"] > 0
            assert window["errors"] == 0
            assert window["server"] > 0
            assert window["p99"] >= window["p50"] > 0
    assert "| rest-binary, 2 | ours |" in (tmp_path / "it.md").read_text()


def test_what_a_server_said_is_told_as_it_is_and_the_record_is_kept(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    said = "the server ended; the end of its log:\n[/opt/app.py] [bold]Killed[/red]"
    found = record.Run({"rounds": 1}, [], {}, [Absent("litserve", said)])
    monkeypatch.setattr(compare, "run", lambda *_: found)
    with pytest.raises(SystemExit) as ended:
        compare.main(["--save=it", f"--results={tmp_path}"])
    assert not ended.value.code
    assert f"not measured: litserve: {said}" in capsys.readouterr().out
    assert (tmp_path / "it.json").exists()


def test_the_fp32_network_answers_as_the_published_one_does(tmp_path: Path) -> None:
    subject = models.mnist(PUBLISHED, PICTURE, tmp_path)
    pixels = np.random.default_rng(0).integers(0, 256, (3, 1, 28, 28), np.uint8)

    (found,) = models.session(subject.file).run(
        None, {subject.input: models.normalise(PUBLISHED, pixels)}
    )

    (expected,) = models.session(PUBLISHED).run(["probabilities"], {"image": pixels})
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert subject.expected.argmax() == 7


def test_a_model_that_begins_otherwise_is_not_cut(tmp_path: Path) -> None:
    large = models.cifar(tmp_path)

    with pytest.raises(ValueError, match="does not begin with a cast, a gain and an offset"):
        models.without_preprocessing(large.file)


def test_a_peer_without_its_environment_says_how_to_build_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv(environments.VARIABLE, str(tmp_path))

    with pytest.raises(Unavailable, match="--install litserve builds it"):
        environments.program("litserve")
