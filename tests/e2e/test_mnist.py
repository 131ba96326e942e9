"""The promise of the whole: what a passport says of a model is what its clients get, every one.

All 10,000 test images go through each protocol, in requests of 1 to 64 rows, many at a time, so
that requests share batches in ways that no two runs repeat.
"""

import asyncio
from collections.abc import Iterator
from typing import Any, Final

import httpx
import numpy as np
import pytest

from serving.types import Array
from tests.e2e.clients import Client, assert_close, connect
from tests.e2e.conftest import Reference
from tests.e2e.scrape import scrape
from tests.e2e.server import Server, penstock_server
from training.data.dataset import Dataset

PROTOCOLS: Final = ("http.aio", "grpc.aio")
IN_FLIGHT: Final = 48
OUTPUTS: Final = ("logits", "probabilities")


@pytest.fixture(scope="module")
def own_server() -> Iterator[Server]:
    """A server of which nobody else asks anything, so that every count must add up."""
    with penstock_server() as running:
        yield running


def cut(count: int, seed: int) -> list[slice]:
    """`count` rows as requests of 1 to 64 rows, of which small ones are the most frequent."""
    sizes = (64 ** np.random.default_rng(seed).random(count)).round().astype(int)
    ends = np.minimum(np.cumsum(sizes), count)
    ends = ends[: int(np.argmax(ends == count)) + 1]
    return [slice(int(a), int(b)) for a, b in zip([0, *ends[:-1]], ends, strict=True)]


async def predict_all(client: Client, model: str, name: str, rows: Array, cuts: Any) -> Any:
    """Every output for all `rows`, asked for by `IN_FLIGHT` callers at once."""
    answers: dict[str, Array] = {
        output: np.full((len(rows), 10), np.nan, np.float32) for output in OUTPUTS
    }
    waiting = iter(cuts)

    async def work() -> None:
        for part in waiting:
            result = await client.infer(model, {name: rows[part]}, outputs=OUTPUTS)
            for output in OUTPUTS:
                answers[output][part] = result.as_numpy(output)

    async with asyncio.TaskGroup() as group:
        for _ in range(IN_FLIGHT):
            group.create_task(work())
    return answers


async def statistics_of(client: Client, model: str) -> Any:
    [statistics] = (await client.call("get_inference_statistics", model))["model_stats"]
    return statistics


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("model", ["mnist-cnn", "mnist-mlp"])
async def test_all_test_images_get_the_runtimes_answers_and_the_passports_accuracy(
    own_server: Server, mnist: Dataset, reference: Reference, model: str, protocol: str
) -> None:
    rows = mnist.test_x
    cuts = cut(len(rows), seed=PROTOCOLS.index(protocol))
    async with connect(protocol, own_server) as client:
        before = await statistics_of(client, model)
        answers = await predict_all(client, model, "image", rows, cuts)
        after = await statistics_of(client, model)
    assert len(rows) == 10_000
    check_answers(answers, model, rows, reference)
    check_accuracy(answers, own_server, model, mnist.test_y)
    check_statistics(before, after, requests=len(cuts), rows=len(rows))
    check_metrics(own_server, after)


def check_answers(answers: Any, model: str, rows: Array, reference: Reference) -> None:
    """Every number is the runtime's own."""
    for start in range(0, len(rows), 500):
        part = slice(start, start + 500)
        for output, expected in reference(model, rows[part]).items():
            assert_close(answers[output][part], expected)


def check_accuracy(answers: Any, server: Server, model: str, labels: Array) -> None:
    """As many answers are right as the model's passport says, to the last one."""
    proven = httpx.get(f"{server.url}/v2/models/{model}/passport").json()["accuracy"]
    right = int((answers["probabilities"].argmax(axis=1) == labels).sum())
    assert (right / len(labels), len(labels)) == (proven["value"], proven["n"])


def executions(statistics: Any) -> dict[int, int]:
    """How many batches of each size have run."""
    return {
        batch["batch_size"]: batch["compute_infer"]["count"] for batch in statistics["batch_stats"]
    }


def check_statistics(before: Any, after: Any, requests: int, rows: int) -> None:
    """Everything that was counted in between adds up, to the last row."""
    counts = [
        {name: duration["count"] for name, duration in each["inference_stats"].items()}
        for each in (before, after)
    ]
    phases = ("success", "queue", "compute_input", "compute_infer", "compute_output")
    grown = {name: counts[1][name] - counts[0][name] for name in counts[1]}
    assert grown == {name: requests if name in phases else 0 for name in grown}
    assert after["inference_count"] - before["inference_count"] == rows
    sizes = executions(after)
    for size, count in executions(before).items():
        sizes[size] -= count
    assert sum(size * count for size, count in sizes.items()) == rows
    executed = after["execution_count"] - before["execution_count"]
    assert sum(sizes.values()) == executed
    assert executed < requests, "no two requests ever shared a batch"
    assert max(sizes) <= 64


def check_metrics(server: Server, statistics: Any) -> None:
    """The metrics tell the same as the statistics."""
    metrics = scrape(server)
    labels = {"model": statistics["name"], "version": statistics["version"]}
    requests = statistics["inference_stats"]["success"]["count"]
    rows, executed = statistics["inference_count"], statistics["execution_count"]
    assert metrics.value("nv_inference_request_success", **labels) == requests
    assert metrics.value("nv_inference_count", **labels) == rows
    assert metrics.value("nv_inference_exec_count", **labels) == executed
    assert metrics.value("nv_inference_pending_request_count", **labels) == 0
    assert metrics.value("penstock_request_duration_seconds_count", **labels) == requests
    assert metrics.value("penstock_queue_duration_seconds_count", **labels) == requests
    assert metrics.value("penstock_compute_duration_seconds_count", **labels) == executed
    assert metrics.value("penstock_batch_rows_sum", **labels) == rows
    sizes = executions(statistics)
    for bound, count in metrics.buckets("penstock_batch_rows", **labels).items():
        assert count == sum(runs for size, runs in sizes.items() if size <= float(bound))


@pytest.mark.parametrize("protocol", PROTOCOLS)
async def test_digits_get_the_passports_accuracy(
    own_server: Server, digits: Dataset, reference: Reference, protocol: str
) -> None:
    rows = digits.test_x
    async with connect(protocol, own_server) as client:
        answers = await predict_all(client, "digits-mlp", "features", rows, cut(len(rows), seed=2))
    check_answers(answers, "digits-mlp", rows, reference)
    check_accuracy(answers, own_server, "digits-mlp", digits.test_y)
