"""Triton's repeat backend: each element of an input comes back in a response of its own."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.config import parse
from serving.engine.backends.repeat import RepeatBackend, RepeatSession
from serving.errors import Internal, LoadFailed
from serving.types import Array

ALL = ["OUT", "IDX"]


def opened(text: str = "") -> RepeatSession:
    return RepeatBackend().open(parse(text, "m"), Path("m", "1"))


def inputs(elements: list[int], **more: Any) -> dict[str, Array]:
    given = {name: np.array(value, np.uint32) for name, value in more.items()}
    return {"IN": np.array(elements, np.int32), **given}


def test_each_element_comes_back_with_its_place() -> None:
    responses = list(opened().stream(inputs([7, 8], DELAY=[0, 0], WAIT=[0]), ALL))

    assert [[int(array[0]) for array in one] for one in responses] == [[7, 0], [8, 1]]


def test_only_the_outputs_that_are_asked_for_come() -> None:
    [[place]] = opened().stream(inputs([7]), ["IDX"])

    assert place.tolist() == [0]


def test_there_is_a_delay_for_each_element() -> None:
    with pytest.raises(Internal, match=r"IN and DELAY shape to match, got \[2\] and \[1\]"):
        list(opened().stream(inputs([7, 8], DELAY=[0]), ALL))


def test_one_element_is_one_response() -> None:
    [element, place] = opened().run(inputs([7]), ALL)

    assert (element.tolist(), place.tolist()) == ([7], [0])


def test_several_responses_need_a_decoupled_model() -> None:
    with pytest.raises(Internal, match=r"makes 2 responses .* decoupled: true"):
        opened().run(inputs([7, 8]), ALL)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("max_batch_size: 2", "does not batch"),
        ('input { name: "X" }', "has the inputs IN, DELAY, WAIT and needs IN, got X"),
        ('input { name: "DELAY" }', "needs IN, got DELAY"),
        ('output { name: "IDX" }', "needs OUT, got IDX"),
    ],
)
def test_a_configuration_of_another_model_is_refused(text: str, message: str) -> None:
    with pytest.raises(LoadFailed, match=message):
        opened(text)
