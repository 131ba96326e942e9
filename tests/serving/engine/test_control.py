"""Loads and unloads as clients ask for them: what serves, what is said, and what goes on."""

import asyncio
import json
import logging
import threading
from pathlib import Path

import pytest

from serving.engine.embedded import EmbeddedEngine
from serving.errors import Code, InvalidArgument, LoadFailed, NotFound, ServingError, Unavailable
from serving.settings import ModelControlMode
from serving.types import LoadOverride
from tests.serving.engine.numbered import PLAIN, Folders, Numbers, ask, engine_over, index

ALL = "version_policy { all {} }"


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    return Folders(tmp_path / "models")


@pytest.fixture
def backend() -> Numbers:
    return Numbers()


async def refusal(engine: EmbeddedEngine, model: str, given: LoadOverride = PLAIN) -> ServingError:
    with pytest.raises(ServingError) as failure:
        await engine.load(model, given)
    return failure.value


async def drained(engine: EmbeddedEngine, line: tuple[str, ...]) -> None:
    """Once the index says so."""
    async with asyncio.timeout(30):
        while line not in await index(engine):
            pass


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


async def test_a_model_without_a_folder_is_refused_and_leaves_no_trace(folders: Folders) -> None:
    async with engine_over(folders.root) as engine:
        error = await refusal(engine, "nobody")
        assert error.code is Code.INTERNAL
        assert error.message.startswith(
            "failed to load 'nobody', failed to poll from model repository"
        )
        await engine.unload("nobody")
        assert await index(engine) == []
        assert await engine.ready()


async def test_a_version_that_does_not_open_takes_the_whole_load_down(
    folders: Folders, backend: Numbers
) -> None:
    folders.add("a", 1, config=ALL)
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


async def test_a_configuration_that_cannot_be_served_is_the_models_reason(
    folders: Folders,
) -> None:
    folders.add("a", 1, config="nonsense: 1")
    async with engine_over(folders.root) as engine:
        error = await refusal(engine, "a")
        assert error.code is Code.INTERNAL
        assert error.message.startswith(
            "failed to load 'a', failed to poll from model repository: "
        )
        assert "config.pbtxt:4:1: ModelConfig has no field 'nonsense'" in error.message
        [(name, state, reason)] = await index(engine)
        assert (name, state) == ("a", "UNAVAILABLE")
        assert "has no field 'nonsense'" in reason


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
    return sorted(name for name in names if not name.startswith(("asyncio", "penstock-load")))


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


def config(**changes: object) -> str:
    tensors = {
        field: [{"name": name, "data_type": "TYPE_FP32", "dims": [1]}]
        for field, name in (("input", "x"), ("output", "y"))
    }
    return json.dumps({"backend": "identity"} | tensors | changes)


async def test_a_given_configuration_holds_until_the_model_is_unloaded(folders: Folders) -> None:
    folders.add("a", 1, 2)
    async with engine_over(folders.root) as engine:
        await engine.load("a", LoadOverride(config(version_policy={"all": {}})))
        assert await index(engine) == [("a", "1", "READY"), ("a", "2", "READY")]
        await engine.load("a", PLAIN)
        assert len(await index(engine, ready_only=True)) == 2
        await engine.unload("a")
        await engine.load("a", PLAIN)
        assert await index(engine, ready_only=True) == [("a", "2", "READY")]


@pytest.mark.parametrize("change", ["config.pbtxt", "3/number"])
async def test_a_given_configuration_holds_until_the_folder_changes(
    folders: Folders, change: str
) -> None:
    folder = folders.add("a", 1, 2)
    async with engine_over(folders.root) as engine:
        await engine.load("a", LoadOverride(config(version_policy={"all": {}})))
        if change == "config.pbtxt":
            folders.add("a")
        else:
            folders.put("a", 3, 3)
        assert (folder / change).exists()
        await engine.load("a", PLAIN)
        assert len(await index(engine, ready_only=True)) == 1


async def test_a_given_configuration_that_is_refused_changes_nothing(folders: Folders) -> None:
    folders.add("a", 1)
    async with engine_over(folders.root) as engine:
        for given in ("{", "", "[1]", '{"foo": 1}', config(name="b"), config(max_batch_size=-1)):
            error = await refusal(engine, "a", LoadOverride(given))
            assert error.code is Code.INVALID_ARGUMENT
            assert error.message.startswith(
                "failed to load 'a', failed to poll from model repository: "
            )
        assert await index(engine) == [("a",)]
        assert await engine.ready()
        await engine.load("a", PLAIN)
        await refusal(engine, "a", LoadOverride("{"))
        assert await ask(engine, "a") == ("1", 1)


async def test_given_files_take_the_place_of_the_folder_until_the_next_plain_load(
    folders: Folders, backend: Numbers
) -> None:
    folders.add("a", 1)
    async with engine_over(folders.root, backend=backend, load_model=("a",)) as engine:
        given = LoadOverride(config(), {"1/number": b"100", "labels.txt": b"cat"})
        await engine.load("a", given)
        assert await ask(engine, "a") == ("1", 100)
        await engine.load("a", LoadOverride(config(), {"5/number": b"500"}))
        assert await ask(engine, "a") == ("5", 500)
        await engine.load("a", PLAIN)
        assert await ask(engine, "a") == ("1", 1)


async def test_given_files_can_be_a_model_of_their_own(folders: Folders) -> None:
    async with engine_over(folders.root) as engine:
        await engine.load("new", LoadOverride(config(), {"1/number": b"7"}))
        assert await ask(engine, "new") == ("1", 7)
        assert await index(engine) == [("new", "1", "READY")]
        assert list(folders.root.iterdir()) == []
        await engine.unload("new")
        assert "failed to poll" in (await refusal(engine, "new")).message
        assert await index(engine) == []


async def test_given_files_that_do_not_load_leave_what_serves(folders: Folders) -> None:
    folders.add("a", 1)
    async with engine_over(folders.root, load_model=("a",)) as engine:
        error = await refusal(engine, "a", LoadOverride(config(), {"2/number": b"broken"}))
        assert error.code is Code.INVALID_ARGUMENT
        assert "version 2 is at UNAVAILABLE state" in error.message
        assert await ask(engine, "a") == ("1", 1)


@pytest.mark.parametrize(
    ("files", "reason"),
    [
        ({"../1/number": b"1"}, "the path must be relative"),
        ({"/1/number": b"1"}, "the path must be relative"),
        ({"01/number": b"1"}, "'01' is not a version"),
        ({"config.pbtxt": b""}, "the parameter 'config' holds the configuration"),
        ({"1": b"", "1/number": b"1"}, "cannot be written"),
        ({"1/" + "x" * 300: b""}, "cannot be written"),
    ],
)
async def test_given_files_that_are_no_models_are_refused(
    folders: Folders, files: dict[str, bytes], reason: str
) -> None:
    folders.add("a", 1)
    async with engine_over(folders.root) as engine:
        error = await refusal(engine, "a", LoadOverride(config(), files))
        assert error.code is Code.INVALID_ARGUMENT
        assert reason in error.message
        assert await index(engine) == [("a",)]


async def test_given_files_need_a_configuration_and_a_model_name(folders: Folders) -> None:
    async with engine_over(folders.root) as engine:
        files = {"1/number": b"1"}
        assert (
            "send the parameter 'config'"
            in (await refusal(engine, "a", LoadOverride(None, files))).message
        )
        for name in ("..", "../x", "/x", ""):
            error = await refusal(engine, name, LoadOverride(config(), files))
            assert error.code is Code.INVALID_ARGUMENT
            assert "is not a model name" in error.message
    assert sorted(path.name for path in folders.root.parent.iterdir()) == ["models"]
