"""What holds for every test."""

import gc
from typing import Final

import pytest
from hypothesis import HealthCheck, settings

# A machine that has much else to do is no reason to fail.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

# A file's tests stay in one process. Those whose tests take longest begin first: the last one to
# end would keep all other processes waiting.
LONGEST: Final = (
    "tests/export/test_to_onnx.py",
    "tests/test_readme.py",
    "tests/training/test_recipes.py",
    "tests/serving/storage/test_commands.py",
    "tests/bench/test_peers.py",
    "tests/e2e/test_bench.py",
    "tests/conformance/test_counting.py",
    "tests/test_packaging.py",
    "tests/e2e/test_openapi.py",
    "tests/triton/test_lifecycle.py",
    "tests/serving/engine/test_memory.py",
    "tests/serving/wire/test_robustness.py",
    "tests/conformance/test_answers.py",
    "tests/e2e/test_mnist.py",
    "tests/e2e/test_tune.py",
    "tests/bench/test_compare.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests of the longest files first."""
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.nodeid.partition("::")[0], len(LONGEST)))


def pytest_collection_finish() -> None:
    """Spare every collection of garbage from now on what the modules and the tests are made of:
    millions of objects that stay."""
    gc.collect()
    gc.freeze()
