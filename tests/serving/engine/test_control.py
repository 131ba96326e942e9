"""What serves, what is said of the rest, and why a load was refused."""

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from serving.engine.registry import Record, Registry
from serving.errors import Code, InvalidArgument, LoadFailed, NotFound, Unavailable
from serving.settings import ModelControlMode
from tests.serving.engine.numbered import (
    ALL,
    PLAIN,
    Folders,
    Numbers,
    ask,
    drained,
    engine_over,
    index,
    refusal,
)


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    return Folders(tmp_path / "models")


@pytest.fixture
def backend() -> Numbers:
    return Numbers()


async def test_a_model_is_a_name_until_it_is_loaded_and_is_remembered_once_unloaded(
    folders: Folders,
) -> None:
    folders.add("a", 1, 2)
    folders.add("b", 1)
    async with engine_over(folders.root) as engine:
        assert await index(engine) == [("a",), ("b",)]
        await engine.load("a", PLAIN)
        assert await index(engine) == [("a", "2", "READY"), ("b",)]
        assert await index(engine, ready_only=True) == [("a", "2", "READY")]
        assert await ask(engine, "a") == ("2", 2)
        await engine.unload("a")
        await drained(engine, ("a", "2", "UNAVAILABLE", "unloaded"))
        assert await index(engine, ready_only=True) == []
        await engine.load("a", PLAIN)
        assert await index(engine) == [("a", "2", "READY"), ("b",)]


async def test_what_is_not_in_service_is_told_apart(folders: Folders) -> None:
    folders.add("a", 1, 2)
    async with engine_over(folders.root) as engine:
        with pytest.raises(NotFound, match=r"unknown model: 'a' is not found$"):
            await ask(engine, "a")
        await engine.load("a", PLAIN)
        with pytest.raises(NotFound, match=r"unknown model: 'a' version 1 is not found$"):
            await ask(engine, "a", "1")
        await engine.unload("a")
        with pytest.raises(NotFound, match=r"unknown model: 'a' has no available versions$"):
            await ask(engine, "a")
        with pytest.raises(Unavailable, match=r"'a' version 2 is not at ready state$"):
            await ask(engine, "a", "2")
        with pytest.raises(InvalidArgument, match="requested model 'a' is not available"):
            await engine.statistics("a")


async def test_a_model_that_is_unloaded_while_it_loads_is_not_missed(
    folders: Folders, backend: Numbers
) -> None:
    folders.add("a", 1)
    async with engine_over(folders.root, backend=backend) as engine:
        backend.opening.shut()
        load = asyncio.create_task(engine.load("a", PLAIN))
        await backend.opening.reached(1)
        unload = asyncio.create_task(engine.unload("a"))
        await asyncio.sleep(0)
        backend.opening.open()
        await asyncio.gather(load, unload)
        await drained(engine, ("a", "1", "UNAVAILABLE", "unloaded"))
        assert await engine.ready()


async def test_a_model_without_a_folder_is_refused_and_leaves_no_trace(folders: Folders) -> None:
    async with engine_over(folders.root) as engine:
        error = await refusal(engine, "nobody")
        assert error.code is Code.LOAD_FAILED
        assert error.message.startswith(
            "failed to load 'nobody', failed to poll from model repository"
        )
        await engine.unload("nobody")
        assert await index(engine) == []
        assert await engine.ready()


async def test_a_version_that_does_not_open_takes_the_whole_load_down(
    folders: Folders, backend: Numbers
) -> None:
    folders.add("a", 1, 3, config=ALL)
    folders.put("a", 2, "broken")
    async with engine_over(folders.root, backend=backend) as engine:
        error = await refusal(engine, "a")
        reason = f"{folders.root}/a/2: 'broken' is no number"
        assert error.code is Code.INVALID_ARGUMENT
        assert error.message == (
            f"load failed for model 'a': version 2 is at UNAVAILABLE state: {reason};"
        )
        assert await index(engine) == [
            ("a", "1", "UNAVAILABLE", "unloaded"),
            ("a", "2", "UNAVAILABLE", reason),
        ]
        assert backend.alive == 0
        assert not await engine.ready()


async def test_a_fault_of_a_backend_is_its_models_and_keeps_no_other_from_service(
    folders: Folders, backend: Numbers
) -> None:
    folders.add("a", 1)
    folders.add("b", 1)
    (folders.root / "b/1/number").unlink()  # which the backend does not reckon with
    names = ("a", "b")
    async with engine_over(
        folders.root, backend=backend, load_model=names, exit_on_error=False
    ) as engine:
        [served, (*entry, reason)] = await index(engine)
        assert served == ("a", "1", "READY")
        assert entry == ["b", "1", "UNAVAILABLE"]
        assert "No such file" in reason
        error = await refusal(engine, "b")
        assert error.code is Code.INVALID_ARGUMENT
        assert error.message == (
            f"load failed for model 'b': version 1 is at UNAVAILABLE state: {reason};"
        )


async def test_a_configuration_that_cannot_be_served_is_the_models_reason(
    folders: Folders,
) -> None:
    folders.add("a", 1, config="nonsense: 1")
    async with engine_over(folders.root) as engine:
        error = await refusal(engine, "a")
        assert error.code is Code.LOAD_FAILED
        assert error.message.startswith(
            "failed to load 'a', failed to poll from model repository: "
        )
        assert "config.pbtxt:4:1: ModelConfig has no field 'nonsense'" in error.message
        [(name, state, reason)] = await index(engine)
        assert (name, state) == ("a", "UNAVAILABLE")
        assert "has no field 'nonsense'" in reason
        # As in Triton, only what failed when it was opened is missed.
        assert await engine.ready()


async def test_a_policy_that_leaves_no_version_is_refused(folders: Folders) -> None:
    folders.add("a", 1, config="version_policy { specific { versions: [7] } }")
    async with engine_over(folders.root) as engine:
        error = await refusal(engine, "a")
        assert error.code is Code.INVALID_ARGUMENT
        assert error.message.startswith(
            "load failed for model 'a': at least one version must be available under the version "
            "policy of model 'a'"
        )


async def test_a_broken_new_version_leaves_the_old_one_serving(
    folders: Folders, backend: Numbers
) -> None:
    folders.add("a", 1)
    async with engine_over(folders.root, backend=backend) as engine:
        await engine.load("a", PLAIN)
        folders.put("a", 2, "broken")
        assert "version 2 is at UNAVAILABLE state" in (await refusal(engine, "a")).message
        assert await ask(engine, "a") == ("1", 1)
        assert await engine.ready()
        first, second = await index(engine)
        assert first == ("a", "1", "READY")
        assert second[:3] == ("a", "2", "UNAVAILABLE")
        folders.put("a", 2, 22)
        await engine.load("a", PLAIN)
        assert await ask(engine, "a") == ("2", 22)
        await drained(engine, ("a", "1", "UNAVAILABLE", "unloaded"))
        assert len(await index(engine)) == 2
        assert backend.alive == 1


async def test_a_broken_configuration_leaves_the_old_one_serving(folders: Folders) -> None:
    folder = folders.add("a", 1)
    async with engine_over(folders.root) as engine:
        await engine.load("a", PLAIN)
        (folder / "config.pbtxt").write_text("nonsense: 1")
        await refusal(engine, "a")
        assert await ask(engine, "a") == ("1", 1)
        assert await index(engine) == [("a", "1", "READY")]
        assert await engine.ready()


@pytest.mark.parametrize("mode", [ModelControlMode.NONE, ModelControlMode.POLL])
async def test_only_explicit_mode_lets_clients_load_and_unload(
    folders: Folders, mode: ModelControlMode
) -> None:
    folders.add("a", 1)
    async with engine_over(folders.root, mode=mode) as engine:
        for change in (engine.load("a", PLAIN), engine.unload("a"), engine.load("b", PLAIN)):
            with pytest.raises(
                Unavailable,
                match="explicit model load / unload is not allowed if polling is enabled",
            ):
                await change
        assert await ask(engine, "a") == ("1", 1)


async def test_ready_means_that_all_that_is_wanted_answers(folders: Folders) -> None:
    folders.add("a", 1)
    folders.add("b", 1)
    folders.put("b", 1, "broken")
    async with engine_over(folders.root) as engine:
        assert await engine.ready()
        await engine.load("a", PLAIN)
        await refusal(engine, "b")
        assert not await engine.ready()
        # Whoever takes back what he asked for has what he wants.
        await engine.unload("b")
        assert await engine.ready()
        await engine.unload("a")
        assert await engine.ready()


@pytest.mark.parametrize("fault", ["config", "version"])
async def test_what_was_to_be_served_from_the_start_is_missed_whatever_is_wrong_with_it(
    folders: Folders, fault: str
) -> None:
    folders.add("a", 1)
    folders.add("b", 1, config="nonsense: 1" if fault == "config" else "")
    folders.put("b", 1, "broken")
    names = ("a", "b")
    async with engine_over(folders.root, load_model=names, exit_on_error=False) as engine:
        assert not await engine.ready()
        folders.add("b", 1)
        await engine.load("b", PLAIN)
        assert await engine.ready()


async def test_without_strict_readiness_a_failed_model_is_its_own_affair(folders: Folders) -> None:
    folders.add("b", 1)
    folders.put("b", 1, "broken")
    async with engine_over(folders.root, strict_readiness=False) as engine:
        await refusal(engine, "b")
        assert await engine.ready()


async def test_models_of_several_repositories_are_served_but_none_of_two(tmp_path: Path) -> None:
    first, second = Folders(tmp_path / "1"), Folders(tmp_path / "2")
    first.add("a", 1)
    second.add("b", 1)
    for folders in (first, second):
        folders.add("both", 1)
    async with engine_over(first.root, second.root) as engine:
        await engine.load("a", PLAIN)
        await engine.load("b", PLAIN)
        error = await refusal(engine, "both")
        assert f"{first.root}/both and {second.root}/both" in error.message
        assert await index(engine) == [
            ("a", "1", "READY"),
            ("b", "1", "READY"),
            ("both", "UNAVAILABLE", "model appears in two or more repositories"),
        ]


async def test_models_are_named_at_start(folders: Folders) -> None:
    for name in "abc":
        folders.add(name, 1)
    async with engine_over(folders.root, load_model=("a", "c", "a")) as engine:
        assert await index(engine, ready_only=True) == [("a", "1", "READY"), ("c", "1", "READY")]
    async with engine_over(folders.root, load_model=("*",)) as engine:
        assert len(await index(engine, ready_only=True)) == 3


async def test_a_named_model_that_does_not_load_fails_the_start_or_is_told(
    folders: Folders, caplog: pytest.LogCaptureFixture
) -> None:
    folders.add("a", 1)
    with pytest.raises(LoadFailed, match="failed to load 'nobody'"):
        async with engine_over(folders.root, load_model=("a", "nobody")):
            pass
    with caplog.at_level(logging.ERROR):
        settings = {"load_model": ("a", "nobody"), "exit_on_error": False}
        async with engine_over(folders.root, **settings) as engine:  # type: ignore[arg-type]
            assert await index(engine) == [("a", "1", "READY")]
    assert "failed to load 'nobody'" in caplog.text


async def test_a_load_and_an_unload_go_through_no_other_models(
    folders: Folders, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        folders.add(name, 1)

    def refuse(_: Registry) -> Iterator[Record]:
        raise AssertionError("of thousands, each would cost as much as all")

    async with engine_over(folders.root) as engine:
        await engine.load("b", PLAIN)
        with monkeypatch.context() as patch:
            patch.setattr(Registry, "__iter__", refuse)
            await engine.load("a", PLAIN)
            await engine.unload("b")
        assert await ask(engine, "a") == ("1", 1)
