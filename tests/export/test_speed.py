"""Two models by turns: which is faster, and by how much."""

from collections.abc import Callable

import pytest

from export import speed
from serving.passport import SpeedProof, Spread

MILLISECOND = 1_000_000


def clock(*steps: int) -> Callable[[], int]:
    """A clock that goes on by these steps in turn, in nanoseconds."""
    now, index = 0, -1

    def read() -> int:
        nonlocal now, index
        index += 1
        now += steps[index % len(steps)]
        return now

    return read


def test_both_run_in_every_round_in_turning_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "ROUNDS", (2, 2))
    ran: list[str] = []

    speed.compare(lambda: ran.append("fp32"), lambda: ran.append("int8"), 1)

    assert ran == ["fp32", "int8"] * speed.WARM_UP + ["fp32", "int8", "int8", "fp32"]


def test_the_speedup_is_the_median_over_the_rounds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "ROUNDS", (1, 1))
    # Between two rounds nothing; then the fp32 model takes 3 ms and the variant 2 ms.
    proof = speed.compare(lambda: None, lambda: None, 8, clock(0, 3 * MILLISECOND, 2 * MILLISECOND))

    assert (proof.batch_size, proof.n) == (8, 1)
    assert proof.fp32_microseconds.median == 3000
    assert proof.variant_microseconds.median == 2000
    assert proof.speedup.median == 1.5


def speedup(size: int, lower: float, median: float) -> SpeedProof:
    spread = Spread(median=median, lower=lower, upper=2 * median)
    return SpeedProof(
        batch_size=size, n=9, fp32_microseconds=spread, variant_microseconds=spread, speedup=spread
    )


@pytest.mark.parametrize(
    ("proofs", "where"),
    [
        ([speedup(1, 1.1, 1.2), speedup(64, 1.5, 1.6)], ""),
        ([speedup(1, 0.9, 0.95), speedup(64, 1.5, 1.6)], "0.95 times as fast at batch size 1 "),
        ([speedup(1, 1.01, 1.04), speedup(64, 1.5, 1.6)], "1.04 times as fast at batch size 1 "),
        (
            [speedup(1, 1.1, 1.2), speedup(64, 0.4, 1.6)],
            "1.60 times as fast at batch size 64 ",
        ),
    ],
)
def test_faster_is_faster_at_every_batch_size_and_in_most_rounds(
    proofs: list[SpeedProof], where: str
) -> None:
    slow = speed.slower(proofs)

    assert (slow == "") == (where == "")
    assert slow.startswith(where)
