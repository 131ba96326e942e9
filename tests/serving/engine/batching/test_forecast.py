"""Execution times are learned by batch size, and guessed rather too long than too short."""

import pytest

from serving.engine.batching.forecast import Forecast


def test_nothing_is_known_at_first() -> None:
    assert Forecast().predict(1) is None


def test_sizes_up_to_the_same_power_of_two_share_what_is_learned() -> None:
    forecast = Forecast()
    forecast.learn(8, 800)
    forecast.learn(4, 400)
    assert [forecast.predict(rows) for rows in (3, 4, 5, 8)] == [400, 400, 800, 800]


@pytest.mark.parametrize(("rows", "expected"), [(1, 800), (8, 800), (9, 1600), (64, 6400)])
def test_sizes_that_never_ran_are_told_by_those_that_did(rows: int, expected: int) -> None:
    forecast = Forecast()
    forecast.learn(8, 800)
    assert forecast.predict(rows) == expected


def test_one_stall_does_not_count_for_much_and_a_slower_machine_does() -> None:
    forecast = Forecast()
    forecast.learn(1, 100)
    forecast.learn(1, 1100)
    assert forecast.predict(1) == 200
    for _ in range(100):
        forecast.learn(1, 1100)
    assert forecast.predict(1) == pytest.approx(1100, rel=0.01)


def test_what_was_learned_is_forgotten_when_something_else_runs() -> None:
    forecast = Forecast()
    for duration in (800, 900, 1000):
        forecast.learn(8, duration)
        forecast.learn(64, duration)
    forecast.restart({8: 100})
    assert [forecast.predict(rows) for rows in (8, 64)] == [100, 800]
    # Nor does how much it varied tell anything.
    known = Forecast()
    known.learn(8, 100)
    assert forecast.lead(8) == known.lead(8)
