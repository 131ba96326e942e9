"""Models made of other models: they come with their parts, follow them, and leave with them."""

import asyncio
from pathlib import Path

import pytest

from serving.engine.dependents import direct_users, users, users_first
from serving.engine.embedded import EmbeddedEngine
from serving.errors import InvalidArgument, NotFound
from serving.types import LoadOverride
from tests.serving.engine.numbered import (
    PLAIN,
    Folders,
    Numbers,
    ask,
    engine_over,
    index,
    refusal,
)

PARTS = {"outer": ["inner", "c"], "inner": ["a", "b"], "other": ["a"], "a": [], "b": [], "c": []}


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    """`inner` asks a and b; `outer` asks inner and c."""
    made = Folders(tmp_path / "models")
    for name in "abc":
        made.add(name, 1)
    made.ensemble("inner", "a", "b")
    made.ensemble("outer", "inner", "c")
    return made


@pytest.fixture
def backend() -> Numbers:
    return Numbers()


async def serving(engine: EmbeddedEngine) -> set[str]:
    return {name for name, *_ in await index(engine, ready_only=True)}


def test_users_are_told_outermost_first() -> None:
    assert users("a", PARTS) == ["outer", "inner", "other"]
    assert users("c", PARTS) == ["outer"]
    assert users("outer", PARTS) == []
    assert direct_users("a", PARTS) == ["inner", "other"]
    order = users_first(PARTS)
    assert sorted(order) == sorted(PARTS)
    for name, parts in PARTS.items():
        assert all(order.index(name) < order.index(part) for part in parts)


def test_a_circle_of_models_is_gone_through_once() -> None:
    circle = {"a": ["b"], "b": ["a"]}
    assert users("a", circle) == ["b"]
    assert sorted(users_first(circle)) == ["a", "b"]


async def test_a_model_is_loaded_with_all_its_parts(folders: Folders) -> None:
    async with engine_over(folders.root) as engine:
        await engine.load("outer", PLAIN)
        assert await serving(engine) == {"a", "b", "c", "inner", "outer"}
        assert await ask(engine, "outer") == ("1", 1)


async def test_parts_stay_when_what_is_made_of_them_goes(folders: Folders) -> None:
    async with engine_over(folders.root, load_model=("outer",)) as engine:
        await engine.unload("outer")
        assert await serving(engine) == {"a", "b", "c", "inner"}


async def test_a_part_takes_what_is_made_of_it_along_and_brings_it_back(folders: Folders) -> None:
    async with engine_over(folders.root, load_model=("outer",)) as engine:
        await engine.unload("a")
        assert await serving(engine) == {"b", "c"}
        # As it was asked for, the server is ready.
        assert await engine.ready()
        with pytest.raises(NotFound, match="'outer' has no available versions"):
            await ask(engine, "outer")
        await engine.load("a", PLAIN)
        assert await serving(engine) == {"a", "b", "c", "inner", "outer"}
        assert await ask(engine, "outer") == ("1", 1)


async def test_what_was_unloaded_by_its_name_does_not_come_back_with_a_part(
    folders: Folders,
) -> None:
    async with engine_over(folders.root, load_model=("outer",)) as engine:
        await engine.unload("outer")
        await engine.unload("a")
        await engine.load("a", PLAIN)
        assert await serving(engine) == {"a", "b", "c", "inner"}


async def test_parts_go_along_on_demand_but_for_those_that_others_want(folders: Folders) -> None:
    folders.ensemble("other", "b")
    async with engine_over(folders.root, load_model=("outer", "other")) as engine:
        await engine.load("a", PLAIN)  # now it is wanted for itself
        await engine.unload("outer", dependents=True)
        assert await serving(engine) == {"a", "b", "other"}


async def test_an_ensemble_goes_without_its_parts_while_an_outer_one_uses_it(
    folders: Folders,
) -> None:
    async with engine_over(folders.root, load_model=("outer",)) as engine:
        await engine.unload("inner", dependents=True)
        assert await serving(engine) == {"c"}


async def test_a_part_that_cannot_be_had_fails_the_load_with_its_reason(folders: Folders) -> None:
    folders.put("b", 1, "broken")
    folders.ensemble("lacking", "a", "nobody")
    async with engine_over(folders.root) as engine:
        with pytest.raises(InvalidArgument) as failure:
            await engine.load("outer", PLAIN)
        assert failure.value.message.startswith(
            "load failed for model 'outer': ensemble 'outer' depends on 'inner' which has no "
            "loaded version. Model 'inner' loading failed with error: load failed for model "
            "'inner': ensemble 'inner' depends on 'b' which has no loaded version."
        )
        assert "'broken' is no number" in failure.value.message
        with pytest.raises(InvalidArgument, match="not available or ambiguous: nobody"):
            await engine.load("lacking", PLAIN)
        assert await serving(engine) == {"a"}
        assert not await engine.ready()


async def test_a_repaired_part_brings_what_waited_for_it(folders: Folders) -> None:
    folders.put("b", 1, "broken")
    async with engine_over(folders.root) as engine:
        with pytest.raises(InvalidArgument):
            await engine.load("inner", PLAIN)
        folders.put("b", 1, 2)
        await engine.load("b", PLAIN)
        assert await ask(engine, "inner") == ("1", 2)
        assert await engine.ready()


async def test_a_part_that_fails_to_reload_does_no_harm(folders: Folders) -> None:
    async with engine_over(folders.root, load_model=("outer",)) as engine:
        folders.put("a", 1, "broken")
        await engine.load("outer", PLAIN)
        assert await ask(engine, "outer") == ("1", 1)


async def test_what_is_made_of_a_reloaded_part_answers_by_the_new_one(
    folders: Folders, backend: Numbers
) -> None:
    async with engine_over(folders.root, backend=backend, load_model=("outer",)) as engine:
        folders.put("c", 1, 33)
        await engine.load("c", PLAIN)
        assert await ask(engine, "outer") == ("1", 33)
        folders.put("c", 2, 44)
        await engine.load("outer", PLAIN)
        assert await ask(engine, "outer") == ("1", 44)
        assert backend.opened.count("a/1") == 1


async def test_what_no_longer_fits_its_part_goes_out_of_service(folders: Folders) -> None:
    async with engine_over(folders.root, load_model=("outer",)) as engine:
        renamed = (folders.root / "c" / "config.pbtxt").read_text().replace('"y"', '"z"')
        (folders.root / "c" / "config.pbtxt").write_text(renamed)
        await engine.load("c", PLAIN)
        assert await serving(engine) == {"a", "b", "c", "inner"}
        assert not await engine.ready()
        [reason] = [line[-1] for line in await index(engine) if line[0] == "outer"]
        assert "output y" in reason


async def test_what_is_made_of_what_no_longer_fits_goes_and_comes_back_with_it(
    folders: Folders,
) -> None:
    config = folders.root / "a" / "config.pbtxt"
    as_it_was = config.read_text()
    async with engine_over(folders.root, load_model=("outer",)) as engine:
        config.write_text(as_it_was.replace('"y"', '"z"'))
        await engine.load("a", PLAIN)
        assert await serving(engine) == {"a", "b", "c"}

        config.write_text(as_it_was)
        await engine.load("a", PLAIN)
        assert await ask(engine, "outer") == ("1", 1)


async def test_what_has_come_back_before_its_part_goes_goes_with_it(
    folders: Folders, backend: Numbers
) -> None:
    async with engine_over(folders.root, backend=backend, load_model=("outer",)) as engine:
        folders.put("a", 2, "broken")
        backend.opening.shut()
        before = backend.opening.arrived
        loading = asyncio.create_task(engine.load("a", PLAIN))
        await backend.opening.reached(before + 1)
        unloading = asyncio.create_task(engine.unload("a"))  # which waits for the load
        while "inner" in await serving(engine):
            pass
        await engine.load("b", PLAIN)  # what is made of it follows
        assert "inner" in await serving(engine)
        backend.opening.open()
        await asyncio.gather(loading, unloading, return_exceptions=True)
        assert await serving(engine) == {"b", "c"}


async def test_a_load_that_an_unload_overtakes_has_the_last_word(
    folders: Folders, backend: Numbers
) -> None:
    async with engine_over(folders.root, backend=backend) as engine:
        backend.opening.shut()
        loading = asyncio.create_task(engine.load("inner", PLAIN))
        await backend.opening.reached(1)  # at a, before inner itself
        await engine.unload("inner")
        backend.opening.open()
        await loading
        assert await ask(engine, "inner") == ("1", 1)
        await engine.unload("a")
        assert await serving(engine) == {"b"}


async def test_requests_within_an_ensemble_finish_before_its_part_goes(
    folders: Folders, backend: Numbers
) -> None:
    async with engine_over(folders.root, backend=backend, load_model=("outer",)) as engine:
        backend.running.shut()
        running = asyncio.create_task(ask(engine, "outer"))
        await backend.running.reached(1)  # at a, with b and c before it
        unload = asyncio.create_task(engine.unload("c"))
        while "outer" in await serving(engine):
            pass
        backend.running.open()
        assert await running == ("1", 1)
        await unload
        assert await serving(engine) == {"a", "b", "inner"}


async def test_requests_within_an_ensemble_finish_before_the_engine_closes(
    folders: Folders, backend: Numbers
) -> None:
    async with engine_over(folders.root, backend=backend, load_model=("outer",)) as engine:
        backend.running.shut()
        running = asyncio.create_task(ask(engine, "outer"))
        await backend.running.reached(1)
        closing = asyncio.create_task(engine.close())
        await asyncio.sleep(0)
        backend.running.open()
        await closing
        assert await running == ("1", 1)
    assert backend.alive == 0


async def test_a_model_that_contains_itself_is_refused(folders: Folders) -> None:
    folders.ensemble("inner", "outer")
    async with engine_over(folders.root) as engine:
        async with asyncio.timeout(30):
            loads = (engine.load(name, PLAIN) for name in ("outer", "inner"))
            outcomes = await asyncio.gather(*loads, return_exceptions=True)
        assert all(isinstance(outcome, InvalidArgument) for outcome in outcomes)
        assert await serving(engine) <= {"c"}


async def test_of_models_that_contain_each_other_an_unload_with_parts_comes_to_an_end(
    folders: Folders,
) -> None:
    folders.ensemble("inner", "outer")
    async with engine_over(folders.root) as engine:
        assert "circular" in (await refusal(engine, "outer")).message
        await engine.unload("outer", dependents=True)
        assert await engine.ready()


@pytest.mark.parametrize("part", ["inner", "outer"])
async def test_what_serves_does_not_come_to_contain_itself(folders: Folders, part: str) -> None:
    async with engine_over(folders.root, load_model=("outer",)) as engine:
        folders.ensemble("inner", part)
        with pytest.raises(InvalidArgument, match=f"inner -> ... -> {part} -> inner"):
            await engine.load("inner", PLAIN)
        assert await ask(engine, "outer") == ("1", 1)
        assert await ask(engine, "inner") == ("1", 1)


async def test_an_ensemble_may_be_given_with_the_load(folders: Folders) -> None:
    (folders.root / "given").mkdir()
    (folders.root / "given" / "1").mkdir()
    text = """{
      "platform": "ensemble",
      "input": [{"name": "x", "data_type": "TYPE_FP32", "dims": [1]}],
      "output": [{"name": "y", "data_type": "TYPE_FP32", "dims": [1]}],
      "ensemble_scheduling": {"step": [{
        "model_name": "a", "model_version": -1, "input_map": {"x": "x"}, "output_map": {"y": "y"}
      }]}
    }"""
    async with engine_over(folders.root) as engine:
        await engine.load("given", LoadOverride(text))
        assert await ask(engine, "given") == ("1", 1)
        folders.put("a", 1, 11)
        await engine.load("a", PLAIN)
        assert await ask(engine, "given") == ("1", 11)
