"""Requests that Penstock gathers into batches for a real Triton that would run them one by one."""

import asyncio
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import httpx
import numpy as np
import pytest
import tritonclient.grpc.aio
from tritonclient.utils import InferenceServerException

from bench.peers.base import Running
from tests.conformance.models import slow
from tests.e2e.server import Server, penstock_server
from tests.triton.server import triton_server

MODEL: Final = "levels"
CONFIG: Final = """\
backend: "onnxruntime"
max_batch_size: 8
input { name: "IN" data_type: TYPE_INT64 dims: [1] }
output { name: "OUT" data_type: TYPE_INT64 dims: [1] label_filename: "labels.txt" }
instance_group { count: 1 kind: KIND_CPU }
"""
# Multiplications of a matrix that may take long enough for the other requests to arrive.
LONG: Final = 1000
OTHERS: Final = (1, 2, 3, 4, 5)
ROWS: Final = 2 + len(OTHERS)  # of an attempt


@dataclass(frozen=True, slots=True)
class Both:
    """A Triton, and Penstock in front of it."""

    triton: Running
    server: Server
    # One client: to load the authorities for each would take as long as the requests.
    asking: httpx.Client

    def executions(self, rows: int) -> int:
        """How many the Triton has counted once so many rows are: it answers before it counts."""
        while int((counted := self._counted())["inference_count"]) < rows:
            pass
        return int(counted["execution_count"])

    def _counted(self) -> dict[str, Any]:
        stats = self.asking.get(f"http://{self.triton.http}/v2/models/{MODEL}/stats").json()
        [counted] = stats["model_stats"]
        return dict(counted)

    def pending(self) -> int:
        """How many requests wait in the gateway."""
        scraped = self.asking.get(f"http://{self.server.metrics}/metrics").text
        name = re.escape(f'nv_inference_pending_request_count{{model="{MODEL}",version="1"}}')
        found = re.search(rf"^{name} (\d+)", scraped, re.MULTILINE)
        return int(found[1]) if found else 0


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    repository = tmp_path_factory.mktemp("repository")
    slow(repository / MODEL)
    (repository / MODEL / "config.pbtxt").write_text(CONFIG)
    (repository / MODEL / "labels.txt").write_text("nothing\n")
    with triton_server(repository) as triton:
        flags = ("--engine=triton", f"--triton-url={triton.grpc}", "--gateway-batching")
        with (
            penstock_server(*flags, "--max-queue-size=100", repository=None) as server,
            httpx.Client(verify=False) as asking,
        ):
            yield Both(triton, server, asking)


async def ask(client: Any, value: int, **options: Any) -> np.ndarray[Any, Any]:
    tensor = tritonclient.grpc.aio.InferInput("IN", [1, 1], "INT64")
    tensor.set_data_from_numpy(np.full((1, 1), value, np.int64))
    answer = await client.infer(MODEL, [tensor], **options)
    result: np.ndarray[Any, Any] = answer.as_numpy("OUT")
    return result


async def alone(both: Both, value: int) -> int:
    async with tritonclient.grpc.aio.InferenceServerClient(both.server.grpc) as client:
        return int((await ask(client, value)).item())


async def waiting(both: Both, count: int, running: Sequence["asyncio.Future[Any]"]) -> bool:
    """Once so many requests wait in the gateway; False if one of the `running` ended before."""
    while not any(ask.done() for ask in running):
        if await asyncio.to_thread(both.pending) == count:
            return True
    return False


async def attempt(both: Both, products: int) -> Sequence[int] | None:
    """The answers to those that wait for a long one; None if that was over too early."""
    async with tritonclient.grpc.aio.InferenceServerClient(both.server.grpc) as client:
        asks = [asyncio.ensure_future(ask(client, products))]
        # By then it has begun to run, most likely; the second is what shows it.
        assert await client.is_server_live()
        asks.append(asyncio.ensure_future(ask(client, products)))
        in_time = await waiting(both, 1, asks)
        asks += [asyncio.ensure_future(ask(client, value)) for value in OTHERS]
        in_time = in_time and await waiting(both, 1 + len(OTHERS), asks[:2])
        _, _, *answers = await asyncio.gather(*asks)
    return [int(answer.item()) for answer in answers] if in_time else None


def test_what_waits_goes_to_triton_in_one_call(both: Both) -> None:
    # What the gateway has not seen answered yet, its metrics do not know.
    assert asyncio.run(alone(both, 7)) == 7
    products, rows = LONG, 1
    before = both.executions(rows)
    while (answers := asyncio.run(attempt(both, products))) is None:
        products, rows = 2 * products, rows + ROWS
        before = both.executions(rows)
    assert answers == list(OTHERS)
    # One of the long ones, and the other with all that came after it.
    assert both.executions(rows + ROWS) == before + 2


async def test_one_that_does_not_fit_is_refused_and_costs_nobody_else_an_answer(both: Both) -> None:
    tensor = tritonclient.grpc.aio.InferInput("IN", [1, 2], "INT64")
    tensor.set_data_from_numpy(np.zeros((1, 2), np.int64))
    async with tritonclient.grpc.aio.InferenceServerClient(both.server.grpc) as client:
        refused, *answers = await asyncio.gather(
            client.infer(MODEL, [tensor]),
            *(ask(client, value) for value in OTHERS),
            return_exceptions=True,
        )
    assert isinstance(refused, InferenceServerException)
    assert "unexpected shape for input 'IN' for model 'levels'. Expected [-1,1], got [1,2]" in str(
        refused
    )
    assert [int(answer.item()) for answer in answers] == list(OTHERS)


async def test_classes_are_asked_for_as_without_it(both: Both) -> None:
    wanted = tritonclient.grpc.aio.InferRequestedOutput("OUT", class_count=1)
    async with tritonclient.grpc.aio.InferenceServerClient(both.server.grpc) as client:
        answers = await asyncio.gather(
            *(ask(client, value, outputs=[wanted], request_id=str(value)) for value in OTHERS)
        )
    classes = [answer.item().decode().split(":") for answer in answers]
    assert [(float(value), *rest) for value, *rest in classes] == [
        (float(value), "0", "nothing") for value in OTHERS
    ]
