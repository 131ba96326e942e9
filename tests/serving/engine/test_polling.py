"""Poll mode: the models are what the repositories hold, as soon as it can be served."""

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from serving.engine.embedded import EmbeddedEngine
from serving.settings import ModelControlMode
from tests.serving.engine.numbered import Folders, Numbers, ask, engine_over, index


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    made = Folders(tmp_path / "models")
    made.add("a", 1)
    return made


@pytest.fixture
def backend() -> Numbers:
    return Numbers()


@asynccontextmanager
async def polling(*repositories: Path, **settings: Any) -> AsyncIterator[EmbeddedEngine]:
    """An engine that looks only when it is told to."""
    settings |= {"mode": ModelControlMode.POLL, "repository_poll_secs": 0}
    async with engine_over(*repositories, **settings) as engine:
        yield engine


async def test_nothing_happens_where_nothing_has_changed(
    folders: Folders, backend: Numbers
) -> None:
    async with polling(folders.root, backend=backend) as engine:
        await ask(engine, "a")
        for _ in range(3):
            await engine.poll()
        assert backend.opened == ["a/1"]
        [statistics] = await engine.statistics("a")
        assert statistics.success.count == 1


async def test_models_that_appear_and_disappear_are_followed(folders: Folders) -> None:
    async with polling(folders.root) as engine:
        folders.add("b", 1, 2)
        await engine.poll()
        assert await index(engine) == [("a", "1", "READY"), ("b", "2", "READY")]
        (folders.root / "a").rename(folders.root / ".a")
        await engine.poll()
        assert await index(engine) == [("b", "2", "READY")]
        assert not await engine.model_ready("a")
        assert await engine.ready()
        (folders.root / ".a").rename(folders.root / "a")
        await engine.poll()
        assert await ask(engine, "a") == ("1", 1)


async def test_what_does_not_load_is_told_of_until_it_does_or_is_withdrawn(
    folders: Folders,
) -> None:
    async with polling(folders.root) as engine:
        assert await engine.unloaded() == []
        folders.put("a", 2, "broken")
        folders.add("b", 1)
        folders.put("b", 1, "broken")
        await engine.poll()
        assert await engine.unloaded() == ["a", "b"]
        assert await ask(engine, "a") == ("1", 1)
        (folders.root / "a" / "2").rename(folders.root / ".withdrawn")
        folders.put("b", 1, 1)
        await engine.poll()
        assert await engine.unloaded() == []
        folders.put("b", 1, "broken")
        await engine.poll()
        assert await engine.unloaded() == ["b"]
        (folders.root / "b").rename(folders.root / ".b")
        await engine.poll()
        assert await engine.unloaded() == []


async def test_changed_versions_and_configurations_are_followed(
    folders: Folders, backend: Numbers
) -> None:
    async with polling(folders.root, backend=backend) as engine:
        folders.put("a", 2, 2)
        await engine.poll()
        assert await ask(engine, "a") == ("2", 2)
        folders.put("a", 2, 22)
        await engine.poll()
        assert await ask(engine, "a") == ("2", 22)
        folders.add("a", config="version_policy { all {} }")
        await engine.poll()
        assert await ask(engine, "a", "1") == ("1", 1)
        (folders.root / "a" / "2").rename(folders.root / "a" / ".2")
        await engine.poll()
        assert await ask(engine, "a") == ("1", 1)
        assert backend.opened == ["a/1", "a/2", "a/2", "a/1"]


async def test_what_is_half_written_is_tried_again_when_there_is_more_of_it(
    folders: Folders, backend: Numbers, caplog: pytest.LogCaptureFixture
) -> None:
    async with polling(folders.root, backend=backend) as engine:
        with caplog.at_level(logging.ERROR):
            folders.put("a", 2, "half")
            (folders.root / "b" / "1").mkdir(parents=True)
            for _ in range(3):
                await engine.poll()
        assert await ask(engine, "a") == ("1", 1)
        assert backend.opened == ["a/1", "a/2"]
        # Each is told once, not with every poll.
        errors = [record for record in caplog.records if record.levelno >= logging.ERROR]
        assert sorted(record.message.split(":")[0] for record in errors) == [
            "failed to load 'b', failed to poll from model repository",
            "load failed for model 'a'",
        ]
        assert await engine.ready()
        folders.put("a", 2, 2)
        folders.add("b", 1)
        await engine.poll()
        assert await index(engine, ready_only=True) == [("a", "2", "READY"), ("b", "1", "READY")]
        assert await engine.ready()


async def test_a_broken_configuration_waits_for_its_repair(folders: Folders) -> None:
    async with polling(folders.root) as engine:
        (folders.root / "a" / "config.pbtxt").write_text("nonsense: 1")
        folders.put("a", 2, 2)
        await engine.poll()
        assert await ask(engine, "a") == ("1", 1)
        folders.add("a")
        await engine.poll()
        assert await ask(engine, "a") == ("2", 2)


async def test_a_repository_that_cannot_be_read_unloads_nothing(
    folders: Folders, caplog: pytest.LogCaptureFixture
) -> None:
    async with polling(folders.root) as engine:
        away = folders.root.rename(folders.root.parent / "away")
        await engine.poll()
        assert await ask(engine, "a") == ("1", 1)
        assert "the repositories cannot be polled" in caplog.text
        away.rename(folders.root)
        folders.put("a", 1, 11)
        await engine.poll()
        assert await ask(engine, "a") == ("1", 11)


async def test_a_second_model_of_a_name_is_an_error_and_the_first_serves_on(
    tmp_path: Path, folders: Folders
) -> None:
    other = Folders(tmp_path / "other")
    async with polling(folders.root, other.root) as engine:
        other.add("a", 7)
        other.add("b", 1)
        await engine.poll()
        assert await ask(engine, "a") == ("1", 1)
        assert await ask(engine, "b") == ("1", 1)
        (other.root / "a").rename(other.root / ".a")
        folders.put("a", 2, 2)
        await engine.poll()
        assert await ask(engine, "a") == ("2", 2)


async def test_a_model_that_failed_at_start_is_served_once_it_is_repaired(
    folders: Folders,
) -> None:
    folders.put("a", 1, "broken")
    async with polling(folders.root, exit_on_error=False) as engine:
        assert not await engine.ready()
        folders.put("a", 1, 1)
        await engine.poll()
        assert await ask(engine, "a") == ("1", 1)
        assert await engine.ready()


async def test_an_empty_repository_is_one_to_which_models_will_come(tmp_path: Path) -> None:
    empty = Folders(tmp_path / "empty")
    async with polling(empty.root) as engine:
        assert await engine.ready()
        empty.add("a", 1)
        await engine.poll()
        assert await ask(engine, "a") == ("1", 1)


async def test_polls_come_by_themselves(folders: Folders, backend: Numbers) -> None:
    mode = ModelControlMode.POLL
    async with engine_over(
        folders.root, backend=backend, mode=mode, repository_poll_secs=1
    ) as engine:
        folders.put("a", 2, 2)
        await backend.opening.reached(2)
        async with asyncio.timeout(30):
            while await ask(engine, "a") != ("2", 2):
                pass
