"""What of the runtime's throughput reaches a client, measured on the CPU as it is on a GPU."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from bench import gpu
from bench.gpu import Measured
from bench.machine import Unavailable
from bench.shares import prepared
from serving.config import parse
from serving.devices import Wish
from tests.e2e.server import ROOT

MODELS = ROOT / "model_repository"
RATE = re.compile(r"(raw|engine|REST|gRPC) ([\d,]+\d)")
FOUND = [
    Measured("a", 1, {"raw": [100.0, 200.0], "REST": [50.0, 80.0]}),
    Measured("a", 8, {"raw": [800.0], "REST": [400.0]}),
]


def test_a_share_is_taken_round_by_round() -> None:
    share = FOUND[0].share("REST")
    assert (share.median, share.least, share.most, share.n) == (0.45, 0.4, 0.5, 2)


def test_the_table_names_a_model_once_and_has_a_share_for_each_way() -> None:
    sheet = gpu.sheet(FOUND, "the CPU")
    assert sheet.headings == ("model", "rows", "raw", "REST")
    assert sheet.rows == [
        ["a", "1", "150", "65 (45%, 40% to 50%)"],
        ["", "8", "800", "400 (50%, 50% to 50%)"],
    ]


def test_a_model_runs_each_request_as_it_is(tmp_path: Path) -> None:
    subject = prepared("agnews-transformer", MODELS, tmp_path / "models", most=256, tokens=7)
    config = parse((tmp_path / "models/agnews-transformer/config.pbtxt").read_text(), "c")
    assert config.max_batch_size == 256
    assert not config.HasField("dynamic_batching")
    inputs = subject.inputs(3)
    assert {name: array.shape for name, array in inputs.items()} == {
        "input_ids": (3, 7),
        "attention_mask": (3, 7),
    }
    assert inputs["attention_mask"].all()
    assert inputs["input_ids"].dtype == np.int64


@pytest.mark.parametrize(
    ("asked", "alone"),
    [("auto", "cuda:1"), ("cuda", "cuda:1"), ("cuda:1,2", "cuda:1"), ("tensorrt", "tensorrt:1")],
)
def test_a_server_takes_the_gpu_alone_that_is_measured(asked: str, alone: str) -> None:
    assert str(Wish.of(str(gpu.alone(Wish.of(asked), 1)))) == alone


def test_a_model_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="has no model 'nothing'"):
        prepared("nothing", MODELS, tmp_path / "models", most=1, tokens=1)


def test_figures_of_a_cpu_are_not_kept_as_those_of_a_gpu() -> None:
    with pytest.raises(SystemExit, match="there is no GPU whose figures could be kept"):
        gpu.main(["--device", "cpu", "--save"])


def test_a_gpu_that_cannot_be_had_is_not_measured_on_the_cpu(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="--device=cuda:77: "):
        gpu.main(["--device", "cuda:77"])


def test_a_record_has_every_rate_and_where_it_was_measured(tmp_path: Path) -> None:
    gpu.save(FOUND, {"hardware": "h", "versions": {}}, "GPU 0", tmp_path)
    record = json.loads((tmp_path / "gpu.json").read_text())
    assert record["results"][1] == {
        "model": "a",
        "rows": 8,
        "rates": {"raw": [800.0], "REST": [400.0]},
    }
    assert "- hardware: h" in (tmp_path / "gpu.md").read_text()


def test_the_ways_that_are_asked_for_give_rows_on_the_cpu(
    capsys: pytest.CaptureFixture[str],
) -> None:
    flags = (
        "--models digits-mlp --batches 2 --seconds 0.2 --rounds 1 --clients 1 --ways engine gRPC"
    )
    gpu.main(["--device", "cpu", "--repository", str(MODELS), *flags.split()])
    [line] = [
        one for one in capsys.readouterr().out.splitlines() if one.startswith("digits-mlp, 2 rows")
    ]
    rates = {name: float(rate.replace(",", "")) for name, rate in RATE.findall(line)}
    assert list(rates) == ["raw", "engine", "gRPC"]
    assert all(rate > 0 for rate in rates.values())
