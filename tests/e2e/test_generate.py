"""generate and generate_stream of the real process, as curl and event sources ask for them."""

import json
from typing import Any

import httpx
import numpy as np
import pytest

from serving.types import Array
from tests.e2e.clients import assert_close
from tests.e2e.conftest import Reference
from training.data.dataset import Dataset

PATH = "/v2/models/digits-mlp"


@pytest.fixture(scope="module")
def row(digits: Dataset) -> Array:
    return digits.test_x[:1]


@pytest.mark.parametrize("version", ["", "/versions/1"])
def test_generate_gives_every_output_by_its_name(
    rest: httpx.Client, row: Array, reference: Reference, version: str
) -> None:
    answer = rest.post(
        f"{PATH}{version}/generate", json={"id": "7", "features": row[0].tolist(), "x": 1}
    )
    assert answer.headers["content-type"] == "application/json"
    document = answer.json()
    for name, expected in reference("digits-mlp", row).items():
        assert_close(np.array(document.pop(name)), expected[0])
    assert document == {"id": "7", "model_name": "digits-mlp", "model_version": "1"}


def test_generate_stream_gives_one_event(rest: httpx.Client, row: Array) -> None:
    request = {"features": row[0].tolist()}
    with rest.stream("POST", f"{PATH}/generate_stream", json=request) as answer:
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
        [line, end] = answer.iter_lines()
    assert end == ""
    assert (
        json.loads(line.removeprefix("data: "))
        == rest.post(f"{PATH}/generate", json=request).json()
    )


@pytest.mark.parametrize("method", ["generate", "generate_stream"])
@pytest.mark.parametrize(
    ("path", "body", "status", "message"),
    [
        ("nobody", {}, 404, "Request for unknown model: 'nobody' is not found"),
        ("digits-mlp/versions/9", {}, 404, "version 9 is not found"),
        ("digits-mlp", {}, 400, "missing required input(s) ['features']"),
        ("digits-mlp", {"features": [1, 2]}, 400, "can not convert input 'features'"),
        ("digits-mlp", {"features": "x"}, 400, "features"),
        ("digits-mlp", {"feature": [1.0]}, 400, "parameters.feature: expected"),
        ("digits-mlp", {"features": [0] * 64 * 65}, 400, "batch-size must be <= 64"),
        ("digits-mlp", [], 400, "request: expected a JSON object"),
    ],
)
def test_what_cannot_run_is_refused_in_plain_json(
    rest: httpx.Client, method: str, path: str, body: Any, status: int, message: str
) -> None:
    answer = rest.post(f"/v2/models/{path}/{method}", json=body)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/json"
    assert message in answer.json()["error"]


@pytest.mark.parametrize("method", ["generate", "generate_stream"])
def test_only_post_is_answered(rest: httpx.Client, method: str) -> None:
    assert rest.get(f"{PATH}/{method}").status_code == 405
