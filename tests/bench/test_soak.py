"""A soak finds memory that grows, beside noise, and errors."""

import mmap
import os

import numpy as np
import pytest

from bench.machine import resident_bytes
from bench.soak import Soaked, slope


def samples(kib_per_minute: float, noise: float = 50.0) -> list[tuple[float, float]]:
    random = np.random.default_rng(0)
    return [
        (float(second), 100_000 + kib_per_minute * second / 60 + float(random.normal(0, noise)))
        for second in range(600)
    ]


def soaked(memory: list[tuple[float, float]], **failures: int) -> Soaked:
    return Soaked(100, 80, 600, 48_000, failures, 0.01, 0.02, 0.5, memory)


@pytest.mark.parametrize("growth", [0, 300, -40])
def test_the_slope_is_found_beside_noise_and_its_error_is_about_right(growth: float) -> None:
    found = slope(samples(growth))
    assert 0 < found.deviation < 2
    assert found.kib_per_minute == pytest.approx(growth, abs=4 * found.deviation)


def test_nothing_is_said_of_two_samples() -> None:
    assert slope(samples(100)[:2]).deviation == float("inf")


def test_a_leak_fails_and_noise_does_not() -> None:
    assert soaked(samples(0)).passed
    assert not soaked(samples(300)).passed


def test_what_memory_does_while_it_settles_does_not_count() -> None:
    rising = [(second, memory - 300 * max(0.0, 100 - second)) for second, memory in samples(0)]
    assert soaked(rising).passed


def test_an_error_fails() -> None:
    assert not soaked(samples(0), refused=1).passed


def test_memory_is_that_of_this_process_at_least() -> None:
    size = 64 << 20
    before = resident_bytes(os.getpid())
    # New memory, where an array might lie in what the process has had before.
    with mmap.mmap(-1, size) as block:
        block[:] = b"\1" * size
        assert resident_bytes(os.getpid()) - before > size // 2
