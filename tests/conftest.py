"""What holds for every test."""

import gc
import os
import signal
from collections.abc import Iterator
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, settings

# Before anything imports numpy, and for all processes that the tests start: where others compute
# too, the threads of one matrix product spend most of their time in loops that wait for each other.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shell has what it runs in the background ignore Ctrl-C, and so would all that the tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# A machine that has much else to do is no reason to fail.
settings.register_profile("patient", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("patient")

# Whose files share what a whole session has, such as a real Triton with a process for each model.
TOGETHER: Final = ("tests/conformance",)

# A file's tests stay in one process. Those whose tests take longest begin first: the last one to
# end would keep all other processes waiting.
LONGEST: Final = (
    *TOGETHER,
    "tests/export/test_to_onnx.py",
    "tests/test_readme.py",
    "tests/training/test_recipes.py",
    "tests/serving/storage/test_commands.py",
    "tests/bench/test_peers.py",
    "tests/e2e/test_bench.py",
    "tests/test_packaging.py",
    "tests/e2e/test_openapi.py",
    "tests/triton/test_lifecycle.py",
    "tests/serving/engine/test_memory.py",
    "tests/serving/wire/test_robustness.py",
    "tests/e2e/test_mnist.py",
    "tests/e2e/test_tune.py",
    "tests/bench/test_compare.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the tests of the longest files first."""
    places = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(unit(item.nodeid), len(LONGEST)))


def unit(nodeid: str) -> str:
    """The file of a test, or the folder whose files stay together."""
    file = nodeid.partition("::")[0]
    return next((folder for folder in TOGETHER if file.startswith(f"{folder}/")), file)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Gives each process the tests of one unit at a time, if it is told to give it files."""
    if config.getoption("dist") != "loadfile":
        return None

    from xdist.scheduler import LoadFileScheduling

    scheduling = LoadFileScheduling(config, log)
    scheduling._split_scope = unit
    return scheduling


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[Any]:
    """Spare every collection of garbage what the modules and the tests are made of: millions of
    objects that stay."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()
