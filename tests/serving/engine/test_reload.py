"""Reloads touch what has changed and nothing else, lose no request, and leave nothing behind."""

import asyncio
import threading
from pathlib import Path

import pytest

from serving.errors import ServingError, Unavailable
from tests.serving.engine.numbered import (
    ALL,
    PLAIN,
    Folders,
    Numbers,
    ask,
    drained,
    engine_over,
    index,
)


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    return Folders(tmp_path / "models")


@pytest.fixture
def backend() -> Numbers:
    return Numbers()


async def test_what_has_not_changed_is_not_opened_again_and_keeps_its_statistics(
    folders: Folders, backend: Numbers
) -> None:
    folders.add("a", 1)
    async with engine_over(folders.root, backend=backend) as engine:
        await engine.load("a", PLAIN)
        await ask(engine, "a")
        await engine.load("a", PLAIN)
        [statistics] = await engine.statistics("a")
        assert statistics.success.count == 1
        assert backend.opened == ["a/1"]


async def test_a_changed_file_is_opened_anew_and_counts_anew(
    folders: Folders, backend: Numbers
) -> None:
    folders.add("a", 1)
    async with engine_over(folders.root, backend=backend) as engine:
        await engine.load("a", PLAIN)
        await ask(engine, "a")
        folders.put("a", 1, 11)
        await engine.load("a", PLAIN)
        [statistics] = await engine.statistics("a")
        assert statistics.success.count == 0
        assert await ask(engine, "a") == ("1", 11)
    assert backend.opened == ["a/1", "a/1"]
    assert backend.alive == 0


@pytest.mark.parametrize("change", ["config", "label"])
async def test_what_all_versions_share_opens_all_of_them_anew(
    folders: Folders, backend: Numbers, change: str
) -> None:
    folder = folders.add("a", 1, 2, config=ALL)
    async with engine_over(folders.root, backend=backend) as engine:
        await engine.load("a", PLAIN)
        if change == "config":
            folders.add("a", config=ALL + 'parameters { key: "k" value { string_value: "v" } }')
        else:
            (folder / "labels.txt").write_text("cat")
        await engine.load("a", PLAIN)
        assert backend.opened == ["a/1", "a/2"] * 2


async def test_a_changed_version_policy_opens_and_closes_only_what_it_says(
    folders: Folders, backend: Numbers
) -> None:
    folders.add("a", 1, 2, 3)
    async with engine_over(folders.root, backend=backend) as engine:
        await engine.load("a", PLAIN)
        await ask(engine, "a")
        folders.add("a", config=ALL)
        await engine.load("a", PLAIN)
        assert backend.opened == ["a/3", "a/1", "a/2"]
        assert (await engine.model_metadata("a")).versions == ("1", "2", "3")
        assert (await engine.model_config("a")).version_policy.HasField("all")
        assert [each.success.count for each in await engine.statistics("a")] == [0, 0, 1]
        folders.add("a", config="version_policy { specific { versions: [2] } }")
        await engine.load("a", PLAIN)
        assert await ask(engine, "a") == ("2", 2)
        await drained(engine, ("a", "3", "UNAVAILABLE", "unloaded"))
        assert len(backend.opened) == 3


@pytest.mark.parametrize("version", [1, 2])
async def test_requests_in_flight_finish_where_they_began_and_new_ones_go_to_the_new(
    folders: Folders, backend: Numbers, version: int
) -> None:
    folders.add("a", 1)
    async with engine_over(folders.root, backend=backend) as engine:
        await engine.load("a", PLAIN)
        backend.running.shut()
        running = asyncio.create_task(ask(engine, "a"))
        await backend.running.reached(1)
        waiting = asyncio.create_task(ask(engine, "a"))
        folders.put("a", version, 100)
        await engine.load("a", PLAIN)
        new = asyncio.create_task(ask(engine, "a"))
        await backend.running.reached(2)
        states = await index(engine)
        assert states[-1] == ("a", str(version), "READY")
        assert states[:-1] == [("a", "1", "UNLOADING")] * (version == 2)
        backend.running.open()
        assert await running == await waiting == ("1", 1)
        assert await new == (str(version), 100)


async def test_a_model_that_is_being_loaded_says_so_and_one_that_serves_meanwhile_is_ready(
    folders: Folders, backend: Numbers
) -> None:
    folders.add("a", 1)
    async with engine_over(folders.root, backend=backend) as engine:
        for states, answers in (
            ([("a", "1", "LOADING")], False),
            ([("a", "1", "READY"), ("a", "2", "LOADING")], True),
        ):
            backend.opening.shut()
            loading = asyncio.create_task(engine.load("a", PLAIN))
            await backend.opening.reached(len(states))
            assert await index(engine) == states
            assert await engine.model_ready("a") is answers
            # What there is goes on; the new one is required from its first answer on.
            assert await engine.ready()
            backend.opening.open()
            await loading
            folders.put("a", 2, 2)


async def test_loads_of_one_model_wait_for_each_other_and_of_others_do_not(
    folders: Folders, backend: Numbers
) -> None:
    folders.add("a", 1)
    folders.add("b", 1)
    async with engine_over(folders.root, backend=backend) as engine:
        backend.opening.shut()
        loads = [asyncio.create_task(engine.load(name, PLAIN)) for name in ("a", "a", "b")]
        await backend.opening.reached(2)
        unload = asyncio.create_task(engine.unload("a"))
        assert sorted(backend.opened) == ["a/1", "b/1"]
        backend.opening.open()
        await asyncio.gather(*loads, unload)
        # The second load of `a` found nothing to open; the unload came last.
        assert sorted(backend.opened) == ["a/1", "b/1"]
        assert not await engine.model_ready("a")
        assert await engine.model_ready("b")


async def test_no_more_models_are_opened_at_once_than_there_are_threads_for_it(
    folders: Folders, backend: Numbers
) -> None:
    for name in "abc":
        folders.add(name, 1)
    settings = {"backend": backend, "model_load_thread_count": 2}
    async with engine_over(folders.root, **settings) as engine:  # type: ignore[arg-type]
        backend.opening.shut()
        loads = [asyncio.create_task(engine.load(name, PLAIN)) for name in "abc"]
        await backend.opening.reached(2)
        assert len(backend.opened) == 2
        backend.opening.open()
        await asyncio.gather(*loads)
        assert len(backend.opened) == 3


async def test_a_load_goes_on_when_its_caller_goes_away(folders: Folders, backend: Numbers) -> None:
    folders.add("a", 1)
    async with engine_over(folders.root, backend=backend) as engine:
        backend.opening.shut()
        caller = asyncio.create_task(engine.load("a", PLAIN))
        await backend.opening.reached(1)
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        backend.opening.open()
        await engine.load("a", PLAIN)
        assert backend.opened == ["a/1"]


async def test_closing_ends_what_is_under_way_and_releases_everything(
    folders: Folders, backend: Numbers
) -> None:
    folders.add("a", 1)
    folders.add("b", 1)
    settings = {"backend": backend, "model_load_thread_count": 1, "load_model": ("a",)}
    async with engine_over(folders.root, **settings) as engine:  # type: ignore[arg-type]
        backend.running.shut()
        running = asyncio.create_task(ask(engine, "a"))
        await backend.running.reached(1)
        backend.opening.shut()
        folders.put("a", 1, 11)
        loads = [asyncio.create_task(engine.load(name, PLAIN)) for name in ("a", "b")]
        await backend.opening.reached(2)
        closing = asyncio.create_task(engine.close())
        await asyncio.sleep(0)
        with pytest.raises(Unavailable, match="the server is stopping"):
            await engine.load("a", PLAIN)
        with pytest.raises(Unavailable, match="the server is stopping"):
            await ask(engine, "a")
        backend.opening.open()
        outcomes = await asyncio.gather(*loads, return_exceptions=True)
        backend.running.open()
        await closing
        assert await running == ("1", 1)
        assert outcomes[0] is None
        # It had not begun; there is no sense in opening it now.
        assert isinstance(outcomes[1], ServingError)
        assert "the server is stopping" in outcomes[1].message
    assert backend.opened == ["a/1", "a/1"]
    assert backend.alive == 0


def workers() -> list[str]:
    """The threads that do not belong to a pool, which grows to its size and no further."""
    names = [thread.name for thread in threading.enumerate()]
    pools = "asyncio", "penstock-load", "penstock-index"
    return sorted(name for name in names if not name.startswith(pools))


async def test_a_hundred_reloads_leave_no_thread_and_no_session_behind(
    folders: Folders, backend: Numbers
) -> None:
    folders.add("a", 1)
    async with engine_over(folders.root, backend=backend, load_model=("a",)) as engine:
        before = workers()
        for number in range(100):
            folders.put("a", 1, number)
            await engine.load("a", PLAIN)
            assert await ask(engine, "a") == ("1", number)
        async with asyncio.timeout(30):
            while backend.alive > 1:
                await index(engine)
        assert workers() == before
        assert len(backend.sessions) == 101
