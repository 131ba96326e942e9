"""Penstock and a real Triton do the same with the memory that a client shares."""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from serving.shared_memory import OBJECTS
from serving.types import Array
from tests.e2e.server import REPOSITORY, penstock_server
from tests.triton.server import triton_server

ROW = 64 * 4
SCORES = 10 * 4
SIZE = 4 * ROW
ROWS = np.linspace(0, 16, 128, dtype=np.float32)

pytestmark = pytest.mark.skipif(not OBJECTS.is_dir(), reason=f"no {OBJECTS} here")


@dataclass(frozen=True, slots=True)
class Answer:
    """What a request came to: its status, the answer but for its numbers, and the memory."""

    status: int
    body: Any
    numbers: Array
    memory: Array


@pytest.fixture(scope="module")
def path() -> Iterator[Path]:
    path = OBJECTS / f"penstock-triton-{os.getpid()}"
    path.write_bytes(bytes(SIZE))
    yield path
    path.unlink()


@pytest.fixture(scope="module")
def servers(path: Path) -> Iterator[tuple[httpx.Client, httpx.Client]]:
    """Ours and the real one, each with the regions `all` and `one`.

    Triton takes no second region of one key; with and without a slash they are two keys to it.
    """
    explicit = ("--model-control-mode=explicit", "--load-model=digits-mlp")
    with (
        penstock_server("--allow-client-shm=true") as ours,
        triton_server(REPOSITORY, *explicit) as theirs,
        httpx.Client(base_url=ours.url, timeout=60) as our_client,
        httpx.Client(base_url=f"http://{theirs.http}", timeout=60) as their_client,
    ):
        for client in (our_client, their_client):
            for name, key, size in (("all", f"/{path.name}", SIZE), ("one", path.name, ROW)):
                body = {"key": key, "offset": 0, "byte_size": size}
                answer = client.post(f"/v2/systemsharedmemory/region/{name}/register", json=body)
                assert (answer.status_code, answer.content) == (200, b"")
        yield our_client, their_client


def area(region: str, byte_size: int, offset: int = 0) -> dict[str, Any]:
    return {
        "shared_memory_region": region,
        "shared_memory_byte_size": byte_size,
        "shared_memory_offset": offset,
    }


def ask(client: httpx.Client, path: Path, request: dict[str, Any]) -> Answer:
    """The answer to a request, which begins with two rows in memory and nothing behind them."""
    path.write_bytes(ROWS.tobytes() + bytes(SIZE - ROWS.nbytes))
    answer = client.post("/v2/models/digits-mlp/infer", json=request)
    body = answer.json()
    numbers = [number for output in body.get("outputs", ()) for number in output.pop("data", ())]
    memory = np.frombuffer(path.read_bytes(), np.float32)
    return Answer(answer.status_code, body, np.array(numbers), memory)


def request(source: dict[str, Any], *targets: dict[str, Any], rows: int = 1) -> dict[str, Any]:
    item = {"name": "features", "shape": [rows, 64], "datatype": "FP32", "parameters": source}
    names = ("logits", "probabilities")
    outputs = [
        {"name": name, "parameters": target} for name, target in zip(names, targets, strict=False)
    ]
    return {"inputs": [item], "outputs": outputs}


ANSWERED = {
    "an input": request(area("all", ROW), {}),
    "an input at an offset": request(area("all", ROW, ROW), {}),
    "two rows": request(area("all", 2 * ROW), {}, rows=2),
    "a region that ends with the input": request(area("one", ROW), {}),
    "an output": request(area("all", ROW), area("all", SCORES, 2 * ROW)),
    "an output with room to spare": request(area("all", ROW), area("all", ROW, 2 * ROW)),
    "one output there and one here": request(area("all", ROW), {}, area("all", SCORES, 3 * ROW)),
    "an output over the input": request(area("all", ROW), area("all", SCORES)),
    "two outputs": request(
        area("all", 2 * ROW),
        area("all", 2 * SCORES, 2 * ROW),
        area("all", 2 * SCORES, 3 * ROW),
        rows=2,
    ),
}

REFUSED = {
    "an unknown region": request(area("none", ROW), {}),
    "an unknown region for the output": request(area("all", ROW), area("none", SCORES)),
    "a size beyond the region": request(area("one", ROW, 4), {}),
    "an offset beyond the region": request(area("one", ROW, ROW), {}),
    "a size that does not fill the shape": request(area("all", ROW - 4), {}),
    "an output that does not fit": request(area("all", ROW), area("all", SCORES - 1, 2 * ROW)),
    "an output beyond the region": request(area("all", ROW), area("one", SCORES, ROW - 4)),
    "classes": request(area("all", ROW), area("all", SCORES) | {"classification": 1}),
}


@pytest.mark.parametrize("request_", ANSWERED.values(), ids=ANSWERED.keys())
def test_what_is_answered_is_answered_alike(
    servers: tuple[httpx.Client, httpx.Client], path: Path, request_: dict[str, Any]
) -> None:
    ours, theirs = (ask(client, path, request_) for client in servers)
    assert ours.status == theirs.status == 200
    assert ours.body == theirs.body
    np.testing.assert_allclose(ours.numbers, theirs.numbers, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(ours.memory, theirs.memory, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("request_", REFUSED.values(), ids=REFUSED.keys())
def test_what_is_refused_is_refused_in_the_same_words(
    servers: tuple[httpx.Client, httpx.Client], path: Path, request_: dict[str, Any]
) -> None:
    ours, theirs = (ask(client, path, request_) for client in servers)
    # Triton calls an output without room a failure of its own.
    assert ours.status == (theirs.status if theirs.status != 500 else 400)
    assert ours.body["error"].casefold().endswith(theirs.body["error"].casefold())
    np.testing.assert_array_equal(ours.memory, theirs.memory)


def test_both_tell_of_the_same_regions(servers: tuple[httpx.Client, httpx.Client]) -> None:
    ours, theirs = (client.get("/v2/systemsharedmemory/status").json() for client in servers)
    assert ours == theirs


@pytest.mark.parametrize(
    "body",
    [
        {"byte_size": 4},
        {"key": "/x"},
        {"key": "/no-such-object", "byte_size": 4},
        {"key": "../x", "byte_size": 4},
        {"key": 5, "byte_size": 4},
        {"key": "{key}", "byte_size": SIZE + 1},
        {"key": "{key}", "byte_size": 0},
        {"key": "{key}", "byte_size": -1},
        {"key": "{key}", "byte_size": 4, "offset": SIZE},
    ],
)
def test_both_refuse_the_same_regions(
    servers: tuple[httpx.Client, httpx.Client], path: Path, body: dict[str, Any]
) -> None:
    wanted = {name: f"/{path.name}" if value == "{key}" else value for name, value in body.items()}
    where = "/v2/systemsharedmemory/region/new/register"
    ours, theirs = (client.post(where, json=wanted) for client in servers)
    assert ours.status_code == 400
    assert theirs.status_code in (400, 500)
