"""Templates of sequences: each in order, with one number, and one under way at a time."""

import time
from collections import defaultdict

import numpy as np
import pytest

from serving.bench.client.messages import encode_steps
from serving.bench.client.supply import FIRST, Live, Sequences, Turns, written
from serving.bench.inputs import Sample, made_up
from serving.bench.model import Model
from serving.bench.plan import Protocol
from serving.dtypes import Datatype
from serving.types import InferenceRequest, TensorSpec
from tests.serving.bench.test_messages import decoded, target

MODEL = Model("m", (TensorSpec("x", Datatype.FP32, (2,)),), (), rows=1, idle=1_000_000_000)
HOUR = 3600 * 1_000_000_000


def samples() -> list[Sample]:
    return made_up(MODEL, is_zero=False, string_length=0, seed=1)[:3]


def sequences(protocol: Protocol, length: int, patience: int = HOUR) -> Sequences:
    return Sequences(
        encode_steps(target(protocol), MODEL, samples(), [], timeout=0.5), length, patience
    )


def place(request: InferenceRequest) -> tuple[bool, bool]:
    parameters = request.parameters
    assert parameters["timeout"] == 500_000
    return bool(parameters["sequence_start"]), bool(parameters["sequence_end"])


def test_prepared_requests_come_in_turn() -> None:
    turns = Turns([b"a", b"b"])
    assert [turns.take()[:2] for _ in range(3)] == [(0, b"a"), (1, b"b"), (0, b"a")]


@pytest.mark.parametrize("protocol", Protocol)
@pytest.mark.parametrize(
    ("length", "places"),
    [
        (1, [(True, True)]),
        (2, [(True, False), (False, True)]),
        (4, [(True, False), (False, False), (False, False), (False, True)]),
    ],
)
def test_a_sequence_begins_goes_on_and_ends(
    protocol: Protocol, length: int, places: list[tuple[bool, bool]]
) -> None:
    ours, given = sequences(protocol, length), samples()
    found: dict[object, list[tuple[bool, bool]]] = defaultdict(list)
    for _ in range(3):
        under_way = [ours.take() for _ in range(2)]
        for body, content, live in under_way:
            request = decoded(protocol, content)
            assert np.array_equal(request.inputs[0].array, given[body].inputs[0].array)
            assert live is not None
            assert request.parameters["sequence_id"] == live.number
            found[live.number].append(place(request))
            ours.give_back(live, is_answered=True)
    assert sum(map(len, found.values())) == 6
    for steps in found.values():
        assert steps == places[: len(steps)]


def test_a_sequence_that_failed_is_left() -> None:
    ours = sequences(Protocol.JSON, 4)
    first = _live(ours)
    ours.give_back(first, is_answered=False)
    assert _live(ours).number != first.number


def test_a_sequence_that_a_server_has_forgotten_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0
    monkeypatch.setattr(time, "monotonic_ns", lambda: now)
    ours = sequences(Protocol.JSON, 4, patience=10)
    older, newer = _live(ours), _live(ours)
    ours.give_back(older, is_answered=True)
    now = 8
    ours.give_back(newer, is_answered=True)
    now = 12
    assert _live(ours) is newer
    assert _live(ours) not in (older, newer)


@pytest.mark.parametrize("number", [FIRST, FIRST + 8 * 10**18 + 10**17, 2**63 - 1])
def test_all_numbers_take_the_same_room(number: int) -> None:
    for is_text in (False, True):
        assert len(written(number, is_text)) == len(written(FIRST, is_text))


def _live(ours: Sequences) -> Live:
    live = ours.take().sequence
    assert live is not None
    return live
