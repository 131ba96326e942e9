"""What models ask for of the GPUs is known before any of them is opened."""

from pathlib import Path

import pytest

from serving.devices import Gpus
from serving.engine import embedded
from serving.engine.embedded import EmbeddedEngine
from serving.layout import Demand
from serving.settings import ModelControlMode, Settings
from tests import adders

BOTH, SECOND = frozenset({0, 1}), frozenset({1})


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(embedded, "find_gpus", lambda wish: Gpus((0, 1)))
    return tmp_path


def test_it_is_told_of_each_model_and_of_the_parts_of_ensembles(repository: Path) -> None:
    adders.add(repository, "a", 1)
    adders.add(repository, "b", 1, config="instance_group { kind: KIND_GPU gpus: 1 }")
    adders.add(repository, "c", 1, config="instance_group { kind: KIND_CPU }")
    adders.chain(repository, "chain", "a", "b")
    adders.chain(repository, "longer", "chain", "c")
    adders.add(repository, "wrong", 1, config="no_such_field: 1")
    gpus, demands = EmbeddedEngine(Settings(model_repository=(repository,))).survey()
    assert gpus == (0, 1)
    none = frozenset[int]()
    assert demands[:4] == [Demand(BOTH), Demand(SECOND), Demand(none), Demand(none, (SECOND, BOTH))]
    [longer] = demands[4:]
    assert sorted(map(sorted, longer.parts)) == [[], [], [0, 1], [1]]


def test_what_clients_may_load_later_may_be_on_any_gpu(repository: Path) -> None:
    settings = Settings(
        model_repository=(repository,), model_control_mode=ModelControlMode.EXPLICIT
    )
    assert EmbeddedEngine(settings).survey() == ((0, 1), [Demand(BOTH)])
