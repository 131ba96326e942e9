"""The autoscalers' manifests, held against traffic: enough replicas, and no swing."""

import math
import random
from typing import Any, Final

import pytest

from tests.deploy.autoscaler import CAPACITY, STEP, Autoscaler, simulate
from tests.deploy.manifests import FOLDER, documents

[HPA] = documents(FOLDER / "overlays" / "autoscale-hpa" / "autoscaler.yaml")
SPEC: Final[dict[str, Any]] = HPA["spec"]
HOUR: Final = 3600 // STEP


def noisy(rates: list[float]) -> list[float]:
    """With a tenth of noise, the same in every run."""
    source = random.Random(1)
    return [rate * source.uniform(0.9, 1.1) for rate in rates]


def ramp() -> list[float]:
    """From 100 requests a second to 1,200 in an hour, an hour of that, and back."""
    up = [100 + 1100 * step / HOUR for step in range(HOUR)]
    return noisy([*up, *[1200.0] * HOUR, *reversed(up), *[100.0] * HOUR])


def spike() -> list[float]:
    """Five times as many for twenty minutes, at once."""
    return noisy([*[150.0] * HOUR, *[750.0] * (HOUR // 3), *[150.0] * (2 * HOUR)])


def day() -> list[float]:
    """Two days: least at night, most in the afternoon."""
    return noisy(
        [800 - 600 * math.cos(2 * math.pi * step / (24 * HOUR)) for step in range(48 * HOUR)]
    )


# Replicas by which they may go to and fro: a tenth of noise moves their number by as much.
WIDTH: Final = 3


# docs/kubernetes.md tells what came of them.
@pytest.mark.parametrize(
    ("traffic", "in_time", "turns"),
    [(ramp(), 0.9999, 1), (spike(), 0.98, 1), (day(), 0.9999, 5)],
    ids=["ramp", "spike", "day"],
)
def test_replicas_follow_the_traffic_and_do_not_swing(
    traffic: list[float], in_time: float, turns: int
) -> None:
    run = simulate(SPEC, traffic)

    assert run.in_time >= in_time
    assert 1 <= run.turns(WIDTH) <= turns
    # In the end what is not needed has gone.
    assert run.replicas[-1] <= math.ceil(max(traffic[-HOUR:]) / CAPACITY / 0.7) + 1


@pytest.mark.parametrize(("traffic", "turns"), [(ramp(), 10), (day(), 200)], ids=["ramp", "day"])
def test_by_the_load_alone_they_would_swing(traffic: list[float], turns: int) -> None:
    run = simulate(SPEC, traffic, by_load_alone=True)

    assert run.turns(WIDTH) > turns
    assert run.in_time < 0.999


def test_scaling_up_is_bounded_by_the_policies() -> None:
    autoscaler = Autoscaler(SPEC)
    found = [autoscaler.step([10.0]) for _ in range(8)]

    assert found[0] == 4
    assert all(after <= 2 * before for before, after in zip(found, found[2:], strict=False))
    assert found[-1] == SPEC["maxReplicas"]


def test_scaling_down_waits_for_its_window_and_goes_in_steps() -> None:
    autoscaler = Autoscaler(SPEC)
    while autoscaler.replicas < SPEC["maxReplicas"]:
        autoscaler.step([10.0])
    window = SPEC["behavior"]["scaleDown"]["stabilizationWindowSeconds"] // STEP
    assert {autoscaler.step([0.0]) for _ in range(window - 1)} == {SPEC["maxReplicas"]}
    assert autoscaler.step([0.0]) == SPEC["maxReplicas"] * 0.9
