"""Which engine process drives which GPUs, for machines that are not here."""

import pytest

from serving.layout import Demand, layout

EIGHT = range(8)


def on(*gpus: int) -> Demand:
    return Demand(frozenset(gpus))


def ensemble(*parts: set[int]) -> Demand:
    return Demand(frozenset(), tuple(map(frozenset, parts)))


@pytest.mark.parametrize(
    ("gpus", "demands", "processes"),
    [
        ([], [], [[]]),
        ([], [on()], [[]]),
        ([0], [on(0)], [[0]]),
        ([0, 1], [on(0, 1)], [[0], [1]]),
        ([0, 1], [on()], [[]]),
        ([0, 1], [on(1), on()], [[1]]),
        ([3, 5], [on(3, 5)], [[3], [5]]),
        (EIGHT, [on(2), on(5), on(2, 5)], [[2], [5]]),
    ],
)
def test_each_gpu_that_a_model_is_on_has_a_process(
    gpus: list[int], demands: list[Demand], processes: list[list[int]]
) -> None:
    assert layout(gpus, demands) == processes


@pytest.mark.parametrize(
    ("demands", "processes"),
    [
        ([on(0, 1, 2), ensemble({0, 1, 2}, {1})], [[0], [1], [2]]),
        ([on(0, 1, 2), ensemble({0}, set())], [[0], [1], [2]]),
        ([on(0, 1, 2), ensemble({0}, {2})], [[0, 2], [1]]),
        ([on(0, 1, 2), ensemble({0, 1}, {2})], [[0, 2], [1]]),
        ([on(0, 1, 2), ensemble({0}, {1}), ensemble({1}, {2})], [[0, 1, 2]]),
        ([on(0, 1, 2, 3), ensemble({0}, {1}), ensemble({2}, {3})], [[2, 3], [0, 1]]),
    ],
)
def test_the_parts_of_an_ensemble_meet_in_a_process(
    demands: list[Demand], processes: list[list[int]]
) -> None:
    assert layout(range(4), demands) == processes


@pytest.mark.parametrize(
    ("gpus", "engines", "processes"),
    [
        ([], 2, [[], []]),
        ([0, 1], 1, [[0, 1]]),
        (EIGHT, 2, [[0, 2, 4, 6], [1, 3, 5, 7]]),
        ([0, 1], 3, [[0], [1], []]),
    ],
)
def test_gpus_are_dealt_out_to_as_many_processes_as_are_asked_for(
    gpus: list[int], engines: int, processes: list[list[int]]
) -> None:
    assert layout(gpus, [on(*gpus)], engines) == processes
