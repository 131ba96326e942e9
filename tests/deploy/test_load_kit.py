"""The parts of the load kit that need no server: shapes, arrivals, samples, objectives."""

import os
import random
import subprocess
import sys
from argparse import ArgumentTypeError
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final

import numpy as np
import onnxruntime
import pytest
from penstock_load import objectives
from penstock_load.addresses import Address
from penstock_load.arrivals import Arrivals
from penstock_load.options import objective, positive, seconds
from penstock_load.samples import Sample, WrongAnswer, endless, read
from penstock_load.shapes import SHAPES, level
from PIL import Image

from tests.e2e.server import REPOSITORY, ROOT

SAMPLES: Final = ROOT / "deploy" / "locust" / "samples"


@pytest.mark.parametrize(
    ("shape", "levels"),
    [
        ("constant", [1, 1, 1, 1, 1]),
        ("ramp", [0, 0.25, 0.5, 0.75, 1]),
        ("steps", [0.2, 0.4, 0.6, 0.8, 1]),
        ("spike", [0.2, 0.2, 1, 0.2, 0.2]),
    ],
)
def test_a_shape_is_a_share_of_the_peak_at_each_quarter(shape: str, levels: list[float]) -> None:
    assert [level(shape, quarter / 4) for quarter in range(5)] == levels


@pytest.mark.parametrize("shape", SHAPES)
def test_what_is_late_gets_the_last_level(shape: str) -> None:
    assert level(shape, 7) == level(shape, 1)


@pytest.mark.parametrize(("shape", "mean"), [("constant", 1), ("ramp", 0.5), ("spike", 0.36)])
def test_arrivals_follow_the_shape(shape: str, mean: float) -> None:
    arrivals = Arrivals(1000, shape, 10, random.Random(1))
    moment, count = arrivals.after(0), 0
    while moment < 10:
        moment, count = arrivals.after(moment), count + 1

    # Four deviations of a Poisson distribution.
    assert count == pytest.approx(10_000 * mean, abs=4 * (10_000 * mean) ** 0.5)


@pytest.mark.parametrize(
    ("host", "grpc", "expected"),
    [
        ("http://gpu-1:9000", "", Address("gpu-1:9000", "gpu-1:8001", False)),
        ("https://models.example", "", Address("models.example:443", "models.example:8001", True)),
        ("http://[::1]:8000", "[::1]:9", Address("[::1]:8000", "[::1]:9", False)),
    ],
)
def test_both_ports_are_found(host: str, grpc: str, expected: Address) -> None:
    assert Address.of(host, grpc) == expected


def test_a_host_without_a_scheme_is_refused() -> None:
    with pytest.raises(ValueError, match=r"expected http://HOST:PORT, got 'gpu-1:8000'"):
        Address.of("gpu-1:8000", "")


@pytest.mark.parametrize(("model", "name"), [("mnist-cnn", "image"), ("digits-mlp", "features")])
def test_the_samples_are_what_the_committed_model_answers(model: str, name: str) -> None:
    session = onnxruntime.InferenceSession(REPOSITORY / model / "1" / "model.onnx")
    samples = read(SAMPLES / f"{model}.npz", [name], rows=50)

    assert len(samples) == 2
    for sample in samples:
        [found] = session.run(["probabilities"], dict(sample.inputs))
        sample.check("probabilities", found)
        assert sample.labels == tuple("0123456789")


def _sample() -> Sample:
    [sample] = read(SAMPLES / "mnist-cnn.npz", ["image"], rows=100)
    return sample


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda _: None, "no output 'probabilities'"),
        (lambda right: right[:1], r"expected the shape \[100, 10\], got \[1, 10\]"),
        (lambda right: np.roll(right, 1, axis=0), "other values than expected"),
        (lambda right: np.full_like(right, np.nan), "other values than expected"),
    ],
)
def test_a_wrong_answer_is_told(change: Any, message: str) -> None:
    sample = _sample()

    with pytest.raises(WrongAnswer, match=message):
        sample.check("probabilities", change(sample.expected["probabilities"]))


def test_images_are_png_files_of_the_very_pixels(tmp_path: Path) -> None:
    sample = _sample()
    file = tmp_path / "digit.png"
    file.write_bytes(sample.images()[7])

    assert np.array_equal(np.asarray(Image.open(file)), sample.inputs["image"][7, 0])


def test_numbers_are_no_images() -> None:
    [sample] = read(SAMPLES / "digits-mlp.npz", ["features"], rows=100)

    with pytest.raises(ValueError, match=r"'features' is no image: float32 \[64\]"):
        sample.images()


@pytest.mark.parametrize(
    ("name", "rows", "message"),
    [("pixels", 1, "no array 'pixels'; there are image"), ("image", 101, "and 101 or more")],
)
def test_a_file_that_does_not_fit_is_refused(name: str, rows: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read(SAMPLES / "mnist-cnn.npz", [name], rows)


def test_samples_go_round_from_where_a_user_begins() -> None:
    samples = read(SAMPLES / "digits-mlp.npz", ["features"], rows=25)
    round_trip = endless(samples, 3)

    assert [samples.index(next(round_trip)) for _ in range(5)] == [3, 0, 1, 2, 3]


def _total(requests: int, failures: int) -> Any:
    """Locust's total of a minute whose percentiles are 10 ms times the share."""
    return SimpleNamespace(
        num_requests=requests,
        num_failures=failures,
        fail_ratio=failures / max(requests, 1),
        total_rps=requests / 60,
        total_fail_per_sec=failures / 60,
        avg_response_time=4.0,
        max_response_time=30.0,
        get_response_time_percentile=lambda share: 10 * share,
    )


@pytest.mark.parametrize(
    ("texts", "failures", "is_met"),
    [
        ([], 0, True),
        ([], 1, False),
        (["p99=9.9ms"], 0, True),
        (["p99=9.8ms"], 0, False),
        (["mean=4ms", "max=30ms", "throughput=10/s"], 0, True),
        (["throughput=11/s"], 0, False),
        (["p99=20ms"], 1, False),
        (["p99=20ms", "errors=1%"], 6, True),
        (["errors=1%"], 7, False),
        (["errors=100%"], 600, False),
    ],
)
def test_a_test_passes_where_all_objectives_are_met(
    texts: list[str], failures: int, is_met: bool
) -> None:
    total = _total(600, failures)

    assert objectives.passed(objectives.judge(texts, total), total) == is_met


def test_a_verdict_is_a_line_with_the_figure() -> None:
    verdicts = objectives.judge(["p50=4ms", "throughput=1/s"], _total(600, 3))

    assert [objectives.line(verdict) for verdict in verdicts] == [
        "missed  p50=4ms: 5 ms",
        "met     throughput=1/s: 9.95/s",
        "missed  errors=0%: 0.5 %",
    ]


def test_where_nothing_was_answered_no_latency_is_told() -> None:
    verdicts = objectives.judge(["p99=1s"], _total(600, 600))

    assert [objectives.line(verdict) for verdict in verdicts] == [
        "missed  p99=1s: no right answer",
        "missed  errors=0%: 100 %",
    ]


# Locust replaces much of Python where it is imported.
STREAMS: Final = """
from locust.stats import RequestStats
from penstock_load import objectives

stats = RequestStats()
for number in range(10):
    stats.log_request("first event", "repeat", 1, 5)
    stats.log_request("stream", "repeat", 50, 5)
stats.log_error("stream", "repeat", "lost")
total = objectives.asked(stats)
print(total.num_requests, total.num_failures)
for texts in (["errors=5%"], ["errors=10%", "p50=50ms"], ["errors=10%", "p50=49ms"]):
    print(objectives.passed(objectives.judge(texts, total), total))
"""


def test_a_stream_is_one_request_however_soon_it_begins() -> None:
    told = subprocess.run(
        [sys.executable, "-c", STREAMS],
        env=os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'deploy' / 'locust'}"},
        capture_output=True,
        text=True,
        check=True,
    )

    assert told.stdout.split() == ["10", "1", "False", "True", "False"]


@pytest.mark.parametrize("text", ["p99=fast", "p99", "goodput=5/s"])
def test_an_objective_that_cannot_be_held_is_wrong_usage(text: str) -> None:
    with pytest.raises(ArgumentTypeError):
        objective(text)


@pytest.mark.parametrize(
    ("kind", "text"),
    [(kind, text) for kind in (seconds, positive) for text in ("nan", "inf", "-1", "soon", "")],
)
def test_a_time_that_never_ends_or_is_none_is_wrong_usage(
    kind: Callable[[str], float], text: str
) -> None:
    with pytest.raises(ArgumentTypeError, match=f"got {text}$"):
        kind(text)


def test_no_time_at_all_is_one_to_wait() -> None:
    assert seconds("0") == 0
    assert seconds("0.5") == positive("0.5") == 0.5
