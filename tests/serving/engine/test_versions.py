"""What clients may call a version, and what they are told of one that they named."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from serving.engine.embedded import EmbeddedEngine
from serving.errors import InvalidArgument, NotFound
from serving.settings import PassportPolicy, Settings
from tests.e2e.repositories import add_identity


@pytest.fixture
async def engine(tmp_path: Path) -> AsyncIterator[EmbeddedEngine]:
    """Serves versions 1 and 2 of a model."""
    folder = add_identity(tmp_path, more="version_policy { all { } }")
    (folder / "2").mkdir()
    running = EmbeddedEngine(
        Settings(model_repository=(tmp_path,), passport_policy=PassportPolicy.OFF)
    )
    await running.start()
    yield running
    await running.close()


async def test_the_metadata_of_a_named_version_lists_that_version(engine: EmbeddedEngine) -> None:
    assert (await engine.model_metadata("echo")).versions == ("1", "2")
    assert (await engine.model_metadata("echo", "1")).versions == ("1",)


async def test_leading_zeros_say_nothing(engine: EmbeddedEngine) -> None:
    assert (await engine.model_metadata("echo", "002")).version == "2"
    assert [one.version for one in await engine.statistics("echo", "01")] == ["1"]
    assert await engine.model_ready("echo", "01")


async def test_version_zero_is_one_that_nobody_has(engine: EmbeddedEngine) -> None:
    with pytest.raises(NotFound, match="'echo' version 0 is not found"):
        await engine.model_metadata("echo", "0")
    assert not await engine.model_ready("echo", "0")


@pytest.mark.parametrize("version", ["latest", "-1", "1.0", " 1", "+1", "٣", "9" * 19])
async def test_what_is_no_version_is_refused_even_where_readiness_is_asked_for(
    engine: EmbeddedEngine, version: str
) -> None:
    with pytest.raises(InvalidArgument, match="is not a version"):
        await engine.model_metadata("echo", version)
    with pytest.raises(InvalidArgument, match="is not a version"):
        await engine.model_ready("echo", version)
    with pytest.raises(InvalidArgument, match="version is not available"):
        await engine.statistics("echo", version)


async def test_no_model_is_ready_that_is_not_there(engine: EmbeddedEngine) -> None:
    assert not await engine.model_ready("nobody")
    assert not await engine.model_ready("echo", "9")
