"""Several engines are one: real engines and the way to them, in one process and by made-up GPUs."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.config import CPU, Placement
from serving.devices import Gpus, Wish
from serving.dtypes import Datatype
from serving.engine import embedded
from serving.engine.backends.base import Session
from serving.engine.backends.ort import OrtBackend
from serving.engine.base import Engine
from serving.engine.embedded import EmbeddedEngine
from serving.errors import InvalidArgument, LoadFailed, NotFound, Unavailable
from serving.settings import ModelControlMode, PassportPolicy, Settings
from serving.types import InferenceRequest, LoadOverride, Tensor
from serving.workers.door import Door
from serving.workers.joined import JoinedEngine, Peer, Steps, side_by_side
from serving.workers.ledger import Ledger
from serving.workers.link import Lost
from serving.workers.remote import RemoteEngine
from serving.workers.service import Service
from serving.workers.sharing import Sharing
from serving.workers.spread import spread
from tests import adders, sequence_models

AS_IT_LIES = LoadOverride()
ON_GPU_1 = "instance_group { kind: KIND_GPU gpus: 1 }"
ON_CPU = "instance_group { kind: KIND_CPU }"


class PretendedGpu:
    """ONNX Runtime's CPU in the place of GPUs; `broken` opens nothing."""

    def __init__(self) -> None:
        self.opened: list[str] = []
        self.broken = False

    def open(self, config: Any, folder: Path, placement: Placement = CPU) -> Session:
        if self.broken:
            raise LoadFailed(f"{folder}: out of memory")
        self.opened.append(f"{config.name} on {placement}")
        return OrtBackend(threads=1).open(config, folder)


class Several:
    """Engines, each with a GPU of its own, behind the doors that a worker finds them by."""

    def __init__(self, engines: Sequence[EmbeddedEngine], gpus: Sequence[PretendedGpu]) -> None:
        self.engines = engines
        self.gpus = gpus
        self.doors = [Door.open() for _ in engines]
        peers = [Peer(RemoteEngine(door.outside), Ledger("nothing")) for door in self.doors[1:]]
        self.joined = JoinedEngine(engines[0], peers)
        self.services = [
            Service(engine, door.inside, Sharing(lambda *_: None, Ledger("nothing")), 1)
            for engine, door in zip((self.joined.engine, *engines[1:]), self.doors, strict=True)
        ]

    async def executed(self) -> list[int]:
        """How many requests each engine has answered, of whatever model."""
        counts = [await engine.statistics() for engine in self.engines]
        return [sum(one.success.count for one in each) for each in counts]


@asynccontextmanager
async def served(several: Several, present: int = 2) -> AsyncIterator[Engine]:
    """The engines as a worker has them, of which only so many let anybody in."""
    remotes = [RemoteEngine(door.outside) for door in several.doors]
    async with AsyncExitStack() as stack:
        for door, service, engine in zip(
            several.doors, several.services, several.engines, strict=True
        ):
            stack.callback(door.close)
            await engine.start()
            stack.push_async_callback(service.close)
        for service in several.services[:present]:
            service.open()
        for remote in remotes:
            stack.push_async_callback(remote.close)
        starts = (remote.start() for remote in remotes)
        await asyncio.gather(several.joined.start(), *starts)
        yield spread(remotes)


@pytest.fixture(autouse=True)
def two_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "find_gpus", lambda wish: Gpus((0, 1), own=wish.own))


@pytest.fixture
def several(tmp_path: Path) -> Several:
    """Two engines of one repository, with a GPU each."""
    return several_of(
        Settings(
            model_repository=(tmp_path,),
            model_control_mode=ModelControlMode.EXPLICIT,
            load_model=("*",),
            passport_policy=PassportPolicy.OFF,
            response_cache_byte_size=1 << 20,
        )
    )


def several_of(settings: Settings) -> Several:
    gpus = [PretendedGpu(), PretendedGpu()]
    engines = [
        EmbeddedEngine(replace(settings, device=Wish(own=(gpu,))), {"onnxruntime": gpus[gpu]})
        for gpu in range(2)
    ]
    return Several(engines, gpus)


def request(model: str = "m", **parameters: Any) -> InferenceRequest:
    one = Tensor("x", Datatype.FP32, np.ones((1, 1), np.float32))
    return InferenceRequest(model, (one,), parameters=parameters)


async def answer(engine: Engine, model: str = "m", **parameters: Any) -> float:
    response = await engine.infer(request(model, **parameters))
    return float(response.outputs[0].array.item())


async def waiting_in(several: Several) -> int:
    """How many requests wait, in whichever engine."""
    return sum(one.pending for one in await several.joined.counted())


async def test_requests_are_spread_and_counted_together(several: Several, tmp_path: Path) -> None:
    adders.add(tmp_path, "m", 1)
    async with served(several) as engine:
        assert {await answer(engine) for _ in range(4)} == {2.0}
        assert await several.executed() == [2, 2]
        [told] = await engine.statistics("m")
        assert (told.success.count, told.inference_count) == (4, 4)
        assert [one.success.count for one in await several.joined.counted()] == [4]


async def test_a_request_goes_to_the_engine_with_the_least_in_hand(
    several: Several, tmp_path: Path
) -> None:
    delay = "dynamic_batching { preferred_batch_size: 2 max_queue_delay_microseconds: 600000000 }"
    adders.add(tmp_path, "m", 1)
    adders.add(tmp_path, "waits", 1, config=delay)
    async with served(several) as engine:
        waiting = asyncio.create_task(answer(engine, "waits"))
        while not await waiting_in(several):
            pass
        assert {await answer(engine) for _ in range(3)} == {2.0}
        assert sorted(await several.executed()) == [0, 3]
        waiting.cancel()


async def test_each_instance_is_on_the_engine_of_its_gpu_and_what_is_on_the_cpu_on_all(
    several: Several, tmp_path: Path
) -> None:
    adders.add(tmp_path, "everywhere", 1)
    adders.add(tmp_path, "pinned", 1, config=ON_GPU_1)
    adders.add(tmp_path, "plain", 1, config=ON_CPU)
    async with served(several) as engine:
        opened = [sorted(gpu.opened) for gpu in several.gpus]
        assert opened == [
            ["everywhere on GPU 0", "plain on the CPU"],
            ["everywhere on GPU 1", "pinned on GPU 1", "plain on the CPU"],
        ]
        assert {await answer(engine, "pinned") for _ in range(4)} == {2.0}
        assert (await engine.model_metadata("pinned")).name == "pinned"
        config = await engine.model_config("everywhere")
        assert list(config.instance_group[0].gpus) == [0, 1]
        ready = await engine.index(ready_only=True)
        assert [entry.name for entry in ready] == ["everywhere", "pinned", "plain"]


async def test_an_ensemble_is_where_all_of_its_parts_are(several: Several, tmp_path: Path) -> None:
    adders.add(tmp_path, "first", 1)
    adders.add(tmp_path, "second", 2, config=ON_GPU_1)
    adders.chain(tmp_path, "both", "first", "second")
    async with served(several) as engine:
        assert {await answer(engine, "both") for _ in range(4)} == {4.0}
        assert (await several.engines[0].statistics("first"))[0].success.count == 0


async def test_each_engine_has_a_response_cache_and_all_are_counted_together(
    several: Several, tmp_path: Path
) -> None:
    adders.add(tmp_path, "m", 1, config="response_cache { enable: true }")
    async with served(several) as engine:
        assert {await answer(engine) for _ in range(6)} == {2.0}
        told = await engine.cache_statistics()
        assert told is not None
        assert (told.size, told.hits, told.misses) == (2 << 20, 4, 2)


async def test_models_change_only_where_clients_may_change_them(tmp_path: Path) -> None:
    adders.add(tmp_path, "m", 1)
    settings = Settings(model_repository=(tmp_path,), passport_policy=PassportPolicy.OFF)
    async with served(several_of(settings)) as engine:
        for change in (engine.unload("m"), engine.load("m", AS_IT_LIES)):
            with pytest.raises(Unavailable, match="not allowed"):
                await change


async def test_what_no_engine_has_is_not_found(several: Several, tmp_path: Path) -> None:
    adders.add(tmp_path, "m", 1)
    async with served(several) as engine:
        for _ in range(2):
            with pytest.raises(NotFound, match="'nobody' is not found"):
                await answer(engine, "nobody")


async def test_a_load_that_fails_in_one_engine_leaves_all_as_they_were(
    several: Several, tmp_path: Path
) -> None:
    folder = adders.add(tmp_path, "m", 1)
    async with served(several) as engine:
        several.gpus[1].broken = True
        adders.publish(folder, 2, 2)
        with pytest.raises(InvalidArgument, match="out of memory"):
            await engine.load("m", AS_IT_LIES)
        assert list(await engine.unloaded()) == ["m"]
        assert {await answer(engine) for _ in range(4)} == {2.0}
        several.gpus[1].broken = False
        await engine.load("m", AS_IT_LIES)
        assert not await engine.unloaded()
        assert {await answer(engine) for _ in range(4)} == {3.0}


async def test_loads_of_one_model_at_the_same_time_do_not_wait_for_each_other_for_ever(
    several: Several, tmp_path: Path
) -> None:
    adders.add(tmp_path, "m", 1)
    async with served(several) as engine:
        override = LoadOverride(adders.config_json(max_batch_size=2), {})
        await asyncio.gather(engine.load("m", override), engine.load("m", AS_IT_LIES))
        assert (await engine.model_config("m")).max_batch_size == 2


async def test_an_unload_holds_in_all_engines(several: Several, tmp_path: Path) -> None:
    adders.add(tmp_path, "m", 1)
    async with served(several) as engine:
        await engine.unload("m")
        assert not await engine.model_ready("m")
        assert await engine.index(ready_only=True) == ()
        await engine.load("m", AS_IT_LIES)
        assert {await answer(engine) for _ in range(4)} == {2.0}


async def test_a_model_that_moves_to_another_gpu_leaves_the_one_before(
    several: Several, tmp_path: Path
) -> None:
    folder = adders.add(tmp_path, "m", 1)
    async with served(several) as engine:
        adders.configure(folder, ON_GPU_1)
        await engine.load("m", AS_IT_LIES)
        assert {await answer(engine) for _ in range(4)} == {2.0}
        assert await several.executed() == [0, 4]


async def test_the_steps_of_a_sequence_find_their_state(several: Several, tmp_path: Path) -> None:
    config = sequence_models.adder_config("direct {}\n", size=16)
    sequence_models.add(tmp_path, "sums", sequence_models.adder(), config)
    ids = ["one", "two", *range(1, 9)]
    async with served(several) as engine:
        for step in range(1, 4):
            for each in ids:
                start, end = step == 1, step == 3
                given = {"sequence_id": each, "sequence_start": start, "sequence_end": end}
                assert await answer(engine, "sums", **given) == step
        assert all(await several.executed())


async def test_while_an_engine_is_away_the_others_answer_and_models_do_not_change(
    several: Several, tmp_path: Path
) -> None:
    adders.add(tmp_path, "m", 1)
    async with served(several, present=1) as engine:
        assert {await answer(engine) for _ in range(4)} == {2.0}
        assert await engine.ready()
        for change in (engine.unload("m"), engine.load("m", AS_IT_LIES)):
            with pytest.raises(Unavailable, match="started again") as refused:
                await change
            assert refused.value.retry_after


async def part(events: list[str], name: str, *failures: Exception | None) -> Steps:
    """Steps of a load, each of which may fail; the last ends it."""
    try:
        for failure in failures:
            if failure:
                raise failure
            events.append(f"{name} pauses")
            yield
        events.append(f"{name} serves")
    finally:
        events.append(f"{name} is over")


async def test_nothing_serves_before_all_have_come_as_far() -> None:
    events: list[str] = []
    assert await side_by_side([part(events, "one", None), part(events, "other", None)]) == []
    assert events[:2] == ["one pauses", "other pauses"]


async def test_an_engine_that_is_lost_before_it_could_serve_ends_the_load() -> None:
    events: list[str] = []
    parts = [part(events, "one", None), part(events, "other", Lost("gone"))]
    with pytest.raises(Lost):
        await side_by_side(parts)
    await parts[0].aclose()
    assert "one serves" not in events


async def test_an_engine_that_is_lost_when_others_may_serve_does_not_hold_them_up() -> None:
    events: list[str] = []
    parts = [part(events, "one", None, None), part(events, "other", None, Lost("gone"))]
    assert await side_by_side(parts) == []
    assert "one serves" in events
