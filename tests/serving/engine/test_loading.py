"""From a folder to versions that answer: all of them warm, or none."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.config import CPU, Placement, Source, complete, parse, resolve
from serving.devices import Gpus
from serving.dtypes import Datatype
from serving.engine.loading import Loader
from serving.engine.repository import Repository
from serving.engine.rollout import told_of
from serving.engine.warmup import warm_sizes
from serving.errors import Internal, LoadFailed
from serving.settings import PassportPolicy
from serving.types import Array, Signature, TensorSpec

CONFIG = """
backend: "identity" max_batch_size: {rows}
input {{ name: "x" data_type: TYPE_FP32 dims: [3, -1] }}
output {{ name: "y" data_type: TYPE_FP32 dims: [3, -1] }}
{more}
"""


class Recorder:
    """A backend whose sessions remember what they ran, and break where a test says."""

    def __init__(self, breaks_at: int = 0, bad_version: str = "") -> None:
        self.sessions: list[RecordingSession] = []
        self.placements: list[Placement] = []
        self._breaks_at = breaks_at
        self._bad_version = bad_version

    def open(self, config: Any, folder: Path, placement: Placement = CPU) -> "RecordingSession":
        if folder.name == self._bad_version:
            raise LoadFailed(f"{folder}: broken")
        batch = (-1,) if config.max_batch_size else ()
        signature = Signature(
            (TensorSpec("x", Datatype.FP32, (*batch, 3, -1)),),
            (TensorSpec("y", Datatype.FP32, (*batch, 3, -1)),),
        )
        self.sessions.append(RecordingSession(signature, self._breaks_at))
        self.placements.append(placement)
        return self.sessions[-1]


class RecordingSession:
    steady = False

    def __init__(self, signature: Signature, breaks_at: int) -> None:
        self.signature = signature
        self.shapes: list[tuple[int, ...]] = []
        self.closed = False
        self._breaks_at = breaks_at

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> list[Array]:
        assert outputs == ["y"]
        assert not inputs["x"].any()
        assert inputs["x"].dtype == np.float32
        self.shapes.append(inputs["x"].shape)
        if len(inputs["x"]) == self._breaks_at:
            raise Internal("zeros are nothing to me")
        return [inputs["x"]]

    def close(self) -> None:
        self.closed = True


def make(tmp_path: Path, rows: int = 8, more: str = "", versions: Sequence[int] = (1,)) -> None:
    for version in versions:
        (tmp_path / "m" / str(version)).mkdir(parents=True)
    (tmp_path / "m" / "config.pbtxt").write_text(CONFIG.format(rows=rows, more=more))


def load(tmp_path: Path, backend: Recorder, policy: PassportPolicy = PassportPolicy.OFF) -> Any:
    loader = Loader({"identity": backend}, policy)
    plan = loader.plan(Repository([tmp_path]), "m")
    return loader.open(plan, plan.versions)


@pytest.mark.parametrize(
    ("rows", "more", "sizes"),
    [
        (0, "", [1]),
        (1, "", [1]),
        (8, "", [1, 2, 4, 8]),
        (6, "", [1, 2, 4, 6]),
        (64, "", [1, 2, 4, 8, 16, 32, 64]),
        (8, "dynamic_batching { preferred_batch_size: [3, 5] }", [1, 2, 3, 4, 5, 8]),
    ],
)
def test_powers_of_two_preferred_sizes_and_the_largest_are_warmed(
    rows: int, more: str, sizes: list[int]
) -> None:
    text = CONFIG.format(rows=rows, more=more)
    source = Source("config.pbtxt", text)
    batch = (-1,) if rows else ()
    signature = Signature(
        (TensorSpec("x", Datatype.FP32, (*batch, 3, -1)),),
        (TensorSpec("y", Datatype.FP32, (*batch, 3, -1)),),
    )
    config = complete(resolve(parse(text, source.name), "m", source), signature, source)
    assert warm_sizes(config) == sizes


def test_every_instance_has_run_every_size_before_it_answers(tmp_path: Path) -> None:
    make(tmp_path, rows=4, more="instance_group { count: 2 kind: KIND_CPU }")
    backend = Recorder()
    [opened] = load(tmp_path, backend)
    assert list(opened.sessions) == backend.sessions
    assert len(backend.sessions) == 2
    for session in backend.sessions:
        # Twice each: the first run allocates, the second settles. A variable dimension is 1.
        assert session.shapes == [(rows, 3, 1) for rows in (1, 1, 2, 2, 4, 4)]
        assert not session.closed


def test_each_session_is_opened_where_its_instances_are_placed(tmp_path: Path) -> None:
    more = "instance_group { gpus: [ 0, 2 ] } instance_group { kind: KIND_CPU }"
    make(tmp_path, more=more)
    path = tmp_path / "m/config.pbtxt"
    path.write_text(path.read_text().replace("identity", "onnxruntime"))
    (tmp_path / "m/1/model.onnx").touch()
    backend, gpus = Recorder(), Gpus((0, 1, 2))
    loader = Loader({"onnxruntime": backend}, PassportPolicy.OFF, gpus=lambda: gpus)
    plan = loader.plan(Repository([tmp_path]), "m")
    [opened] = loader.open(plan, plan.versions)
    assert [placement.gpu for placement in backend.placements] == [0, 2, None]
    assert list(opened.sessions) == backend.sessions
    assert told_of(opened.config, budget=6) == "3 instances x 2 threads on GPU 0, GPU 2"


def test_a_model_that_does_not_batch_is_warmed_in_its_own_shape(tmp_path: Path) -> None:
    make(tmp_path, rows=0)
    backend = Recorder()
    load(tmp_path, backend)
    assert set(backend.sessions[0].shapes) == {(3, 1)}


def test_a_model_that_refuses_zeros_is_served_with_a_warning(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make(tmp_path)
    with caplog.at_level(logging.WARNING, "penstock.load"):
        [opened] = load(tmp_path, Recorder(breaks_at=2))
    assert opened.version == "1"
    [record] = caplog.records
    assert "warm-up with 2 rows of zeros failed: zeros are nothing to me" in record.getMessage()


def test_the_version_policy_chooses_and_versions_ascend(tmp_path: Path) -> None:
    make(tmp_path, more="version_policy { all { } }", versions=(10, 2, 1))
    assert [opened.version for opened in load(tmp_path, Recorder())] == ["1", "2", "10"]


def test_without_a_policy_the_latest_version_is_opened(tmp_path: Path) -> None:
    make(tmp_path, versions=(9, 10))
    assert [opened.version for opened in load(tmp_path, Recorder())] == ["10"]


def test_a_version_that_does_not_open_closes_those_before_it(tmp_path: Path) -> None:
    make(tmp_path, more="version_policy { all { } }", versions=(1, 2, 3))
    backend = Recorder(bad_version="3")
    with pytest.raises(LoadFailed, match="3: broken"):
        load(tmp_path, backend)
    assert len(backend.sessions) == 2
    assert all(session.closed for session in backend.sessions)


def test_a_fault_behind_the_opening_closes_the_session(tmp_path: Path) -> None:
    make(tmp_path)
    config = tmp_path / "m" / "config.pbtxt"
    config.write_text(config.read_text().replace("TYPE_FP32", "TYPE_INT8"))
    backend = Recorder()
    with pytest.raises(LoadFailed):
        load(tmp_path, backend)
    assert [session.closed for session in backend.sessions] == [True]


def test_a_policy_that_chooses_nothing_is_a_failure_that_lists_what_there_is(
    tmp_path: Path,
) -> None:
    make(tmp_path, more="version_policy { specific { versions: [7] } }", versions=(1, 2))
    with pytest.raises(LoadFailed, match="no version to serve: the folder has 1, 2"):
        load(tmp_path, Recorder())


def test_a_passport_that_is_missing_is_a_warning_or_a_refusal_as_the_policy_says(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    make(tmp_path)
    with caplog.at_level(logging.WARNING, "penstock.load"):
        [opened] = load(tmp_path, Recorder(), PassportPolicy.WARN)
    assert opened.passport is None
    assert "it has no passport.json" in caplog.text
    backend = Recorder()
    with pytest.raises(LoadFailed, match="a passport is required"):
        load(tmp_path, backend, PassportPolicy.REQUIRE)
    assert all(session.closed for session in backend.sessions)
