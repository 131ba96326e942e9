"""The autoscalers' manifests, held against traffic: enough replicas, and no swing."""

import math
from typing import Any, Final

import pytest

from deploy.sim import autoscaling_page
from deploy.sim.autoscaler import STEP, Autoscaler, Reading
from deploy.sim.autoscaling import CAPACITY, HOUR, START, Run, manifest
from deploy.sim.page import between

SPEC: Final[dict[str, Any]] = manifest()


@pytest.fixture(scope="module")
def runs() -> dict[str, Run]:
    return autoscaling_page.runs()


@pytest.fixture(scope="module")
def by_load_alone() -> dict[str, Run]:
    return autoscaling_page.runs(by_load_alone=True)


@pytest.mark.parametrize(
    ("traffic", "in_time", "turns"),
    [("ramp", 0.9999, 1), ("spike", 0.98, 1), ("two days", 0.9999, 3)],
)
def test_replicas_follow_the_traffic_and_do_not_swing(
    runs: dict[str, Run], traffic: str, in_time: float, turns: int
) -> None:
    run = runs[traffic]

    assert run.in_time >= in_time
    assert 1 <= run.turns() <= turns
    # In the end what is not needed has gone.
    assert run.replicas[-1] <= math.ceil(max(run.rates[-HOUR:]) / CAPACITY / 0.7) + 1


def test_a_spike_is_late_for_as_long_as_two_starts_and_what_is_between(
    runs: dict[str, Run],
) -> None:
    period = SPEC["behavior"]["scaleUp"]["policies"][0]["periodSeconds"]

    assert runs["spike"].longest_late <= 2 * (START + period)


@pytest.mark.parametrize(("traffic", "turns"), [("ramp", 10), ("two days", 200)])
def test_by_the_load_alone_they_would_swing(
    by_load_alone: dict[str, Run], traffic: str, turns: int
) -> None:
    run = by_load_alone[traffic]

    assert run.turns() > turns
    assert run.in_time < 0.999


def test_the_page_says_what_comes_of_the_manifest(
    runs: dict[str, Run], by_load_alone: dict[str, Run]
) -> None:
    shown = autoscaling_page.PAGE.read_text(encoding="utf-8")
    table = autoscaling_page.table(runs, by_load_alone)

    assert shown == between(shown, "autoscaling", table), (
        "bring it up to date: python -m deploy.sim.autoscaling_page"
    )
    assert f"({autoscaling_page.PICTURE.name})" in shown


@pytest.mark.parametrize(
    ("reading", "replicas", "expected"),
    [
        pytest.param(Reading(1.09, 10), 10, 10, id="within the tolerance"),
        pytest.param(Reading(1.2, 10), 10, 12, id="more"),
        pytest.param(Reading(0.5, 10), 10, 5, id="fewer"),
        pytest.param(Reading(1.5, 4, unready=4), 8, 8, id="busy, but more have been started"),
        pytest.param(Reading(1.5, 4, unready=1), 5, 6, id="busier than those can help"),
        pytest.param(Reading(2.0, 2, missing=1), 3, 4, id="who tells nothing is idle"),
        pytest.param(Reading(0.5, 2, missing=2), 4, 3, id="or as busy as it should be"),
        pytest.param(Reading(0.5, 4, unready=4), 8, 2, id="who is not ready helps nobody"),
    ],
)
def test_a_metric_asks_for_replicas_in_proportion(
    reading: Reading, replicas: int, expected: int
) -> None:
    assert reading.need(replicas) == expected


def ask(autoscaler: Autoscaler, ratio: float) -> int:
    """The replicas after all of them have told so."""
    return autoscaler.step([Reading(ratio, autoscaler.replicas)])


def test_scaling_up_is_bounded_by_the_policies() -> None:
    autoscaler = Autoscaler(SPEC)
    found = [ask(autoscaler, 10.0) for _ in range(8)]

    assert found[0] == 4
    assert all(after <= 2 * before for before, after in zip(found, found[2:], strict=False))
    assert found[-1] == SPEC["maxReplicas"]


def test_scaling_down_waits_for_its_window_and_goes_in_steps() -> None:
    autoscaler = Autoscaler(SPEC)
    while autoscaler.replicas < SPEC["maxReplicas"]:
        ask(autoscaler, 10.0)
    window = SPEC["behavior"]["scaleDown"]["stabilizationWindowSeconds"] // STEP
    assert {ask(autoscaler, 0.0) for _ in range(window - 1)} == {SPEC["maxReplicas"]}
    assert ask(autoscaler, 0.0) == SPEC["maxReplicas"] * 0.9
