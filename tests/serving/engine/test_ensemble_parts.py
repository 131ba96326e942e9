"""What an ensemble asks of the models that it is made of."""

from collections.abc import AsyncIterator

import pytest

from serving.errors import (
    LoadFailed,
    ServingError,
)
from tests.ensembles import ensemble, step
from tests.serving.engine.ensembles import CHAIN, HEAD, ONE, ROWS
from tests.serving.engine.models import Models, tensor


@pytest.fixture
async def models() -> AsyncIterator[Models]:
    async with Models() as models:
        yield models


async def test_an_ensemble_of_a_model_that_is_not_there_does_not_load(models: Models) -> None:
    models.add("b")

    with pytest.raises(
        LoadFailed,
        match="e:5: ensemble e contains models that are not available or ambiguous: a",
    ):
        models.add_ensemble("e", CHAIN)


async def test_an_ensemble_of_a_model_that_failed_to_load_does_not_load(models: Models) -> None:
    models.versions["a"] = {}

    with pytest.raises(LoadFailed, match="ensemble 'e' depends on 'a' which has no loaded version"):
        models.add_ensemble("e", ONE)


async def test_an_ensemble_of_a_version_that_is_not_loaded_does_not_load(models: Models) -> None:
    models.add("a")

    with pytest.raises(
        LoadFailed, match="ensemble 'e' depends on 'a' whose required version 3 is not loaded"
    ):
        models.add_ensemble("e", ensemble(step("a", "x=in", "y=out", version=3), head=HEAD))


async def test_an_ensemble_is_held_against_its_models_at_load(models: Models) -> None:
    models.add("a", batch=4)

    with pytest.raises(LoadFailed, match="ensemble e allows maximum batch size 8, but it contains"):
        models.add_ensemble("e", ONE)


async def test_a_model_that_changed_under_its_ensemble_gives_errors_and_no_wrong_answers(
    models: Models,
) -> None:
    models.add("a")
    models.add_ensemble("e", ONE)
    models.add("a", dims=(3,), version="2")

    with pytest.raises(ServingError, match="in ensemble 'e', step 0 of model 'a'"):
        await models.ask("e", tensor(ROWS))
