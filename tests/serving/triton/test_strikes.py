"""When others are asked first for a model that a server fails, and for how long."""

import logging

import pytest

from serving.triton.strikes import Strikes


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def failing(times: int, clock: Clock) -> Strikes:
    strikes = Strikes("10.0.0.1:8001", clock)
    for _ in range(times):
        strikes.failed("m")
    return strikes


def test_a_failure_now_and_then_is_none_of_the_servers() -> None:
    strikes = failing(2, Clock())
    strikes.answered("m")
    strikes.failed("m")
    assert not strikes.are_out("m")


def test_others_are_asked_first_for_the_model_that_fails_in_a_row_and_for_no_other() -> None:
    strikes = failing(3, Clock())
    assert strikes.are_out("m")
    assert not strikes.are_out("other")


@pytest.mark.parametrize("times", [3, 4])
def test_one_request_tries_after_a_while_and_others_wait_for_what_becomes_of_it(
    times: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "penstock.triton")
    clock = Clock()
    strikes = failing(times, clock)
    clock.now += 5
    assert not strikes.are_out("m")
    strikes.tried("m")
    assert strikes.are_out("m")
    strikes.answered("m")
    assert not strikes.are_out("m")
    assert caplog.messages == [
        "10.0.0.1:8001 fails every request to m: other servers are asked first",
        "10.0.0.1:8001 answers requests to m again",
    ]
