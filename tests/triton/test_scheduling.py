"""Priorities on a real Triton and on ours, and what both say of a scheduler's misconfiguration."""

import asyncio
import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, TypeAlias

import httpx
import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.grpc.aio
from tritonclient.utils import InferenceServerException

from bench.peers.base import Running, answers
from serving.dtypes import Datatype
from tests import sequence_models as models
from tests.conformance.models import slow
from tests.e2e.server import penstock_server
from tests.serving import graphs
from tests.triton.server import triton_server

EXPLICIT: Final = "--model-control-mode=explicit"
LOAD: Final = "--load-model=levels"
TRIES: Final = 3
# Multiplications of a matrix that may take long enough for the other requests to arrive.
LONG: Final = 1000

Asking: TypeAlias = "asyncio.Future[None]"

LEVELS: Final = """\
backend: "onnxruntime" max_batch_size: 1
input { name: "IN" data_type: TYPE_INT64 dims: [1] }
output { name: "OUT" data_type: TYPE_INT64 dims: [1] }
dynamic_batching { priority_levels: 3 default_priority_level: 2 }
"""
ONE: Final = "instance_group { count: 1 kind: KIND_CPU }\n"
PLAIN: Final = models.X + 'output { name: "y" data_type: TYPE_FP64 dims: 5 }\n'
STATE: Final = 'state { input_name: "a" output_name: "b" data_type: TYPE_FP32 dims: 1 '


def batching(text: str) -> str:
    return f'backend: "onnxruntime" max_batch_size: 3\n{PLAIN}dynamic_batching {{ {text} }}\n'


def sequences(text: str) -> str:
    return models.config(PLAIN, text, 3)


def controls(old: str, new: str) -> str:
    assert old in models.CONTROLS
    return sequences(models.CONTROLS.replace(old, new, 1))


def initial(text: str) -> str:
    return sequences(f"{models.CONTROLS}{STATE} initial_state {{ {text} }} }}")


def warmup(text: str) -> str:
    inputs = f'inputs {{ key: "x" value {{ {text} }} }}'
    return batching(f'}} model_warmup {{ name: "w" batch_size: 1 {inputs}')


MISCONFIGURED: Final = {
    "levels-without-default": batching("priority_levels: 2"),
    "default-above-levels": batching("priority_levels: 2 default_priority_level: 3"),
    "policy-above-levels": batching(
        "priority_levels: 2 default_priority_level: 1 priority_queue_policy { key: 3 value {} }"
    ),
    "ordered-levels": batching(
        "priority_levels: 2 default_priority_level: 1 preserve_ordering: true"
    ),
    "ordered-delays": batching(
        "preserve_ordering: true default_queue_policy { timeout_action: DELAY "
        "default_timeout_microseconds: 1 }"
    ),
    "preferred-none": sequences("oldest { preferred_batch_size: 0 }" + models.CONTROLS),
    "preferred-too-many": sequences("oldest { preferred_batch_size: 9 }" + models.CONTROLS),
    "utilization": sequences("direct { minimum_slot_utilization: 1.5 }" + models.CONTROLS),
    "control-without-name": controls('"start"', '""'),
    "control-twice": controls('"start"', '"end"'),
    "kind-twice": controls("CONTROL_SEQUENCE_END", "CONTROL_SEQUENCE_START"),
    "no-values": controls("int32_false_true: [ 0, 1 ]", ""),
    "two-kinds-of-values": controls(
        "int32_false_true", "fp32_false_true: [ 0, 1 ] int32_false_true"
    ),
    "three-values": controls("int32_false_true: [ 0, 1 ]", "int32_false_true: [ 0, 1, 2 ]"),
    "id-with-values": controls("data_type", "int32_false_true: [ 0, 1 ] data_type"),
    "id-of-floats": controls("TYPE_UINT64", "TYPE_FP32"),
    "state-without-name": initial("data_type: TYPE_FP32 dims: 1 zero_data: true"),
    "state-of-other-dims": initial('name: "i" data_type: TYPE_FP32 dims: 2 zero_data: true'),
    "state-of-more-dims": initial('name: "i" data_type: TYPE_FP32 dims: [ 1, 1 ] zero_data: true'),
    "state-of-other-type": initial('name: "i" data_type: TYPE_INT32 dims: 1 zero_data: true'),
    "sample-of-any-size": warmup("data_type: TYPE_FP32 dims: -1 zero_data: true"),
    "sample-without-data": warmup("data_type: TYPE_FP32 dims: 1"),
    "sample-of-other-type": warmup("data_type: TYPE_INT32 dims: 1 zero_data: true"),
}


class Triton(ExitStack):
    """A real Triton that can be started again: now and then a model that it refuses kills it."""

    def __init__(self, repository: Path) -> None:
        super().__init__()
        self._repository = repository
        self._running = self.start()

    def start(self) -> Running:
        """Ends the server that runs, if one does, and starts another."""
        self.close()
        self._running = self.enter_context(triton_server(self._repository, EXPLICIT, LOAD))
        return self._running

    def lives(self) -> bool:
        return answers(f"http://{self._running.http}/v2/health/live")

    @property
    def grpc(self) -> str:
        return self._running.grpc

    @property
    def metrics(self) -> str:
        return self._running.metrics

    @property
    def log(self) -> Path:
        return self._running.log


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    repository = tmp_path_factory.mktemp("repository")
    rows = graphs.model({"x": (Datatype.FP32, ["n", 1])}, {"y": (Datatype.FP64, ["n", 5])})
    for name, text in MISCONFIGURED.items():
        made = models.witness() if "sequence_batching" in text else rows
        models.add(repository, name, made, text + ONE)
    slow(repository / "levels")
    (repository / "levels" / "config.pbtxt").write_text(LEVELS + ONE)
    with (
        Triton(repository) as triton,
        penstock_server(EXPLICIT, LOAD, repository=repository) as ours,
    ):
        yield {"triton": triton, "ours": ours}


async def ask(client: Any, priority: int, products: int, answered: list[int]) -> None:
    tensor = tritonclient.grpc.aio.InferInput("IN", [1, 1], "INT64")
    tensor.set_data_from_numpy(np.full((1, 1), products, np.int64))
    await client.infer("levels", [tensor], priority=priority)
    answered.append(priority)


async def waiting(server: Any, count: int, running: Sequence[Asking]) -> bool:
    """Once so many requests wait for the model; False if one of the `running` ended before."""
    pending = f'nv_inference_pending_request_count{{model="levels",version="1"}} {count}'
    # Nothing is encrypted here, and to load the authorities would take as long as the requests.
    async with httpx.AsyncClient(verify=False) as client:
        while not any(ask.done() for ask in running):
            scraped = await client.get(f"http://{server.metrics}/metrics")
            if re.search(rf"^{re.escape(pending)}(\.0)?$", scraped.text, re.MULTILINE):
                return True
    return False


async def attempt(server: Any, products: int) -> list[int] | None:
    """The priorities in the order of the answers; None if the first were over too early."""
    answered: list[int] = []
    async with tritonclient.grpc.aio.InferenceServerClient(server.grpc) as client:
        # One of the first two runs while the others come.
        asks = [asyncio.ensure_future(ask(client, 0, products, answered)) for _ in range(2)]
        all_wait = await waiting(server, 1, asks)
        for waits, priority in enumerate((3, 9, 1, 2), 2):
            asks.append(asyncio.ensure_future(ask(client, priority, 1, answered)))
            all_wait = all_wait and await waiting(server, waits, asks[:2])
        await asyncio.gather(*asks)
    return answered if all_wait else None


async def order(server: Any) -> list[int]:
    """The priorities of requests in the order in which they are answered."""
    products = LONG
    while (answered := await attempt(server, products)) is None:
        products *= 2
    return answered


def test_requests_are_answered_in_the_same_order(servers: dict[str, Any]) -> None:
    theirs, ours = (asyncio.run(order(server)) for server in servers.values())
    assert ours == theirs
    assert ours == [0, 1, 0, 9, 2, 3]


def refusal(server: Any, name: str) -> str:
    """What the client is told when it asks for the model to be loaded."""
    with (
        tritonclient.grpc.InferenceServerClient(server.grpc) as client,
        pytest.raises(InferenceServerException) as refused,
    ):
        client.load_model(name)
    return str(refused.value.message())


def refusal_of_triton(triton: Triton, name: str) -> str:
    """What its client is told, and the log where that says more."""
    for _ in range(TRIES):
        before = len(triton.log.read_text())
        said = refusal(triton, name)
        if triton.lives():
            return said + triton.log.read_text()[before:]
        triton.start()
    pytest.fail(f"Triton died {TRIES} times over {name}")


def sentence(said: str, name: str) -> str:
    """The reason in what Triton says of a model that it does not load."""
    found = re.search(
        rf"Poll failed for model directory '{name}': (.*)\"|Invalid argument: (.*);", said
    )
    assert found, said
    return (found[1] or found[2]).removesuffix(f" for {name}")


@pytest.mark.parametrize("name", MISCONFIGURED)
def test_a_mistake_is_told_in_the_same_words(servers: dict[str, Any], name: str) -> None:
    theirs = refusal_of_triton(servers["triton"], name)
    reason = sentence(theirs, name).removeprefix("[request id: <id_unknown>] ")
    assert reason in refusal(servers["ours"], name)
