"""Sequences on a real Triton and on ours: the same conversations, answers and refusals."""

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Final

import httpx
import numpy as np
import pytest
import tritonclient.grpc.aio
import tritonclient.http.aio
from tritonclient.utils import InferenceServerException

from tests import sequence_models as models
from tests.e2e.server import penstock_server
from tests.triton.server import triton_server

CLIENTS: Final[dict[str, ModuleType]] = {
    "http": tritonclient.http.aio,
    "grpc": tritonclient.grpc.aio,
}
CONFIGS: Final = {
    "direct": models.witness_config("max_sequence_idle_microseconds: 60000000\n"),
    "oldest": models.witness_config(
        "max_sequence_idle_microseconds: 60000000 oldest { max_candidate_sequences: 2 }\n"
    ),
    "single": models.witness_config("max_sequence_idle_microseconds: 60000000\n", size=0),
    "brief": models.witness_config("max_sequence_idle_microseconds: 1000\n"),
}
ONE: Final = "instance_group { count: 1 kind: KIND_CPU }\n"


@dataclass(frozen=True, slots=True)
class Ask:
    """One request, and where in its sequence it stands."""

    x: float
    sequence: int | str = 7
    start: bool = False
    end: bool = False
    rows: int = 1


# What is told of a request: its numbers, or what the server said instead.
Told = list[float] | str


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    repository = tmp_path_factory.mktemp("repository")
    for name, text in CONFIGS.items():
        models.add(repository, name, models.witness(name != "single"), text + ONE)
    with (
        triton_server(repository) as triton,
        penstock_server(repository=repository) as ours,
    ):
        yield {"triton": triton, "ours": ours}


@pytest.fixture(params=CLIENTS)
def protocol(request: pytest.FixtureRequest) -> str:
    return str(request.param)


async def tell(client: Any, module: ModuleType, model: str, ask: Ask) -> Told:
    shape = (ask.rows, 1) if model != "single" else (1,)
    tensor = module.InferInput("x", list(shape), "FP32")
    tensor.set_data_from_numpy(np.full(shape, ask.x, np.float32))
    try:
        answer = await client.infer(
            model,
            [tensor],
            sequence_id=ask.sequence,
            sequence_start=ask.start,
            sequence_end=ask.end,
        )
    except InferenceServerException as error:
        return str(error.message())
    numbers: list[float] = answer.as_numpy("y").ravel().tolist()
    return numbers


async def converse(server: Any, protocol: str, model: str, asks: Sequence[Ask]) -> list[Told]:
    """What the server tells, one request after the other."""
    module, address = CLIENTS[protocol], getattr(server, protocol)
    async with module.InferenceServerClient(address) as client:
        return [await tell(client, module, model, ask) for ask in asks]


def both(servers: dict[str, Any], protocol: str, model: str, asks: Sequence[Ask]) -> list[Told]:
    """What both servers tell, which must be the same."""
    theirs, ours = (
        asyncio.run(converse(server, protocol, model, asks)) for server in servers.values()
    )
    assert ours == theirs
    return ours


@pytest.mark.parametrize("model", ["direct", "oldest", "single"])
def test_a_sequence_is_told_alike(servers: dict[str, Any], protocol: str, model: str) -> None:
    asks = [Ask(1, start=True), Ask(2), Ask(3, end=True), Ask(4, 9, start=True, end=True)]
    told = both(servers, protocol, model, asks)
    assert told == [[1, 1, 0, 1, 7], [2, 0, 0, 1, 7], [3, 0, 1, 1, 7], [4, 1, 1, 1, 9]]


@pytest.mark.parametrize("model", ["direct", "oldest"])
def test_sequences_between_each_other_are_told_alike(
    servers: dict[str, Any], protocol: str, model: str
) -> None:
    asks = [
        Ask(1, 1, start=True),
        Ask(2, 2, start=True),
        Ask(3, 2),
        Ask(4, 1),
        Ask(5, 2, start=True),
        Ask(6, 2, end=True),
        Ask(7, 1, end=True),
    ]
    told = both(servers, protocol, model, asks)
    assert [numbers[0] for numbers in told] == [1, 2, 3, 4, 5, 6, 7]


@pytest.mark.parametrize("model", ["direct", "oldest", "single"])
@pytest.mark.parametrize(
    "ask",
    [
        Ask(1),
        Ask(1, 2**63 - 1),
        Ask(1, sequence="never-begun"),
        Ask(1, sequence=0),
        Ask(1, sequence=0, start=True),
        Ask(1, sequence=""),
        Ask(1, end=True),
    ],
    ids=str,
)
def test_what_is_no_step_of_a_sequence_is_refused_alike(
    servers: dict[str, Any], protocol: str, model: str, ask: Ask
) -> None:
    assert isinstance(both(servers, protocol, model, [ask])[0], str)


def test_a_batch_of_several_rows_is_refused_alike(servers: dict[str, Any], protocol: str) -> None:
    [message] = both(servers, protocol, "direct", [Ask(1, start=True, rows=2)])
    assert "must specify batch-size 1" in str(message)


def test_a_sequence_that_has_ended_must_begin_again_alike(
    servers: dict[str, Any], protocol: str
) -> None:
    told = both(servers, protocol, "direct", [Ask(1, start=True, end=True), Ask(2)])
    assert "must specify the START flag" in str(told[1])


def test_ids_are_told_in_full(servers: dict[str, Any], protocol: str) -> None:
    [numbers] = both(servers, protocol, "direct", [Ask(1, 2**63 - 1, start=True, end=True)])
    assert numbers[4] == float(2**63 - 1)


async def in_turns(server: Any, protocol: str, model: str) -> list[Told]:
    """Three sequences where there is room for fewer, the last of which waits for a slot."""
    module, address = CLIENTS[protocol], getattr(server, protocol)
    async with module.InferenceServerClient(address) as client:
        seated = (1, 2, 3) if model == "direct" else (1, 2)
        held = [await tell(client, module, model, Ask(1, each, start=True)) for each in seated]
        waiting = asyncio.ensure_future(tell(client, module, model, Ask(1, 4, start=True)))
        held.append(await tell(client, module, model, Ask(2, 1)))
        assert not waiting.done()
        held.append(await tell(client, module, model, Ask(3, 1, end=True)))
        held.append(await waiting)
        ends = [Ask(5, sequence, end=True) for sequence in (*seated[1:], 4)]
        return held + [await tell(client, module, model, ask) for ask in ends]


@pytest.mark.parametrize("model", ["direct", "oldest"])
def test_a_sequence_without_a_slot_waits_for_one_alike(
    servers: dict[str, Any], protocol: str, model: str
) -> None:
    theirs, ours = (asyncio.run(in_turns(server, protocol, model)) for server in servers.values())
    assert ours == theirs
    assert all(isinstance(told, list) for told in ours)


async def forgotten(server: Any, protocol: str) -> Told:
    """What is told of a sequence that has been silent for too long, as soon as that is so."""
    module, address = CLIENTS[protocol], getattr(server, protocol)
    async with module.InferenceServerClient(address) as client:
        for place in range(10_000):
            told = await tell(client, module, "brief", Ask(place, 5, start=place == 0))
            if isinstance(told, str):
                return told
    raise AssertionError("the sequence was never given up")


def test_a_silent_sequence_is_given_up_alike(servers: dict[str, Any], protocol: str) -> None:
    theirs, ours = (asyncio.run(forgotten(server, protocol)) for server in servers.values())
    assert ours == theirs
    assert "must specify the START flag" in str(ours)


@pytest.mark.parametrize("model", ["direct", "oldest"])
def test_the_configuration_is_completed_alike(servers: dict[str, Any], model: str) -> None:
    theirs, ours = (
        httpx.get(f"http://{server.http}/v2/models/{model}/config").json()["sequence_batching"]
        for server in servers.values()
    )
    assert ours == theirs
