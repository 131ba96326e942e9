"""How many engine processes there are to be is found out in one that ends before any begins."""

import os
import signal
from pathlib import Path

import pytest

from serving import engines
from serving.devices import Device, Gpus, Wish
from serving.engine import embedded
from serving.errors import LoadFailed
from serving.settings import Settings
from tests import adders

WANTED = Wish(Device.CUDA)


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of three GPUs, those with models are 0 and 2; nobody may look at them in this process."""
    this = os.getpid()

    def find(wish: Wish) -> Gpus:
        assert os.getpid() != this
        return Gpus((0, 1, 2))

    monkeypatch.setattr(embedded, "find_gpus", find)
    adders.add(tmp_path, "a", 1, config="instance_group { kind: KIND_GPU gpus: [ 0, 2 ] }")
    adders.add(tmp_path, "b", 1, config="instance_group { kind: KIND_CPU }")
    return tmp_path


@pytest.mark.parametrize(
    ("wish", "number", "processes"),
    [
        (WANTED, 0, [[0], [2]]),
        (WANTED, 1, [[]]),
        (WANTED, 3, [[0], [2], []]),
        (Wish(Device.CPU), 0, [[]]),
        (Wish(Device.CPU), 2, [[], []]),
    ],
)
def test_each_gpu_with_models_has_an_engine_unless_their_number_is_given(
    repository: Path, wish: Wish, number: int, processes: list[list[int]]
) -> None:
    settings = Settings(model_repository=(repository,), workers=1, engines=number, device=wish)
    assert engines.processes(settings) == processes


def test_a_gpu_that_cannot_be_had_ends_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def find(wish: Wish) -> Gpus:
        raise LoadFailed("there is no GPU")

    monkeypatch.setattr(embedded, "find_gpus", find)
    with pytest.raises(LoadFailed, match="there is no GPU"):
        engines.processes(Settings(model_repository=(tmp_path,), workers=1, device=WANTED))


def test_a_driver_that_crashes_ends_the_start_with_a_word_of_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def find(wish: Wish) -> Gpus:
        os.kill(os.getpid(), signal.SIGKILL)  # as SIGSEGV, of which nothing is printed
        raise AssertionError

    monkeypatch.setattr(embedded, "find_gpus", find)
    with pytest.raises(LoadFailed, match="the process that looked for GPUs crashed: the driver"):
        engines.processes(Settings(model_repository=(tmp_path,), workers=1, device=WANTED))
