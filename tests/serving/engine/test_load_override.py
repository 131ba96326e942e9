"""What a load may bring along: a configuration and files in the place of the repository's."""

import json
from pathlib import Path

import pytest

from serving.errors import Code
from serving.types import LoadOverride
from tests.serving.engine.numbered import PLAIN, Folders, Numbers, ask, engine_over, index, refusal


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    return Folders(tmp_path / "models")


@pytest.fixture
def backend() -> Numbers:
    return Numbers()


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
        for given in (
            "{",
            "",
            "[]",
            "null",
            "[1]",
            '{"foo": 1}',
            config(name="b"),
            config(max_batch_size=-1),
        ):
            error = await refusal(engine, "a", LoadOverride(given))
            assert error.code is Code.UNFIT_OVERRIDE
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


async def test_given_files_of_a_model_whose_name_no_folder_can_have_are_refused(
    folders: Folders,
) -> None:
    async with engine_over(folders.root) as engine:
        given = LoadOverride(config(), {"1/number": b"7"})
        error = await refusal(engine, "n" * 300, given)
        assert error.code is Code.UNFIT_OVERRIDE
        assert "File name too long" in error.message
        assert await index(engine) == []


async def test_given_files_for_which_the_server_has_no_place_say_where_it_may_get_one(
    folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "nowhere"))
    async with engine_over(folders.root) as engine:
        error = await refusal(engine, "new", LoadOverride(config(), {"1/number": b"7"}))
        assert error.code is Code.LOAD_FAILED
        assert "TMPDIR" in error.message


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
        assert error.code is Code.UNFIT_OVERRIDE
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
            assert error.code is Code.UNFIT_OVERRIDE
            assert "is not a model name" in error.message
    assert sorted(path.name for path in folders.root.parent.iterdir()) == ["models"]
