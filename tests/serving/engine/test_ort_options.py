"""What a configuration asks of ONNX Runtime reaches its sessions."""

import threading
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

from serving.config import parse
from serving.dtypes import Datatype
from serving.engine.backends.ort import OrtBackend
from serving.engine.backends.ort_session import OrtSession
from serving.errors import LoadFailed
from tests.serving import graphs

LEVELS = onnxruntime.GraphOptimizationLevel


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = graphs.model({"x": (Datatype.FP32, ["n", 2])}, {"y": (Datatype.FP32, ["n", 2])})
    graphs.write(made, tmp_path / "model.onnx")
    return tmp_path


def opened(folder: Path, text: str = "", **parameters: str) -> OrtSession:
    text += "".join(
        f'parameters {{ key: "{key}" value {{ string_value: "{value}" }} }}'
        for key, value in parameters.items()
    )
    return OrtBackend(threads=2).open(parse(text, "c"), folder)


def options(session: OrtSession) -> Any:
    """The options that the runtime says it has for the session."""
    return session._session.get_session_options()


def test_threads_are_those_of_the_configuration_or_else_our_share(folder: Path) -> None:
    assert options(opened(folder)).intra_op_num_threads == 2
    assert options(opened(folder, intra_op_thread_count="3")).intra_op_num_threads == 3
    assert options(opened(folder, inter_op_thread_count="4")).inter_op_num_threads == 4


@pytest.mark.parametrize(
    ("value", "mode"),
    [
        ("0", onnxruntime.ExecutionMode.ORT_SEQUENTIAL),
        ("1", onnxruntime.ExecutionMode.ORT_PARALLEL),
    ],
)
def test_the_execution_mode_is_that_of_the_configuration(
    folder: Path, value: str, mode: object
) -> None:
    assert options(opened(folder, execution_mode=value)).execution_mode == mode


@pytest.mark.parametrize("value", ["0", "1"])
def test_arena_and_pattern_are_those_of_the_configuration(folder: Path, value: str) -> None:
    given = options(opened(folder, enable_mem_arena=value, enable_mem_pattern=value))
    assert given.enable_cpu_mem_arena == given.enable_mem_pattern == bool(int(value))


@pytest.mark.parametrize(
    ("level", "meaning"),
    [
        (-1, LEVELS.ORT_ENABLE_BASIC),
        (0, LEVELS.ORT_ENABLE_ALL),
        (1, LEVELS.ORT_ENABLE_EXTENDED),
        (2, LEVELS.ORT_DISABLE_ALL),
    ],
)
def test_the_graph_level_is_tritons(folder: Path, level: int, meaning: object) -> None:
    session = opened(folder, f"optimization {{ graph {{ level: {level} }} }}")
    assert options(session).graph_optimization_level == meaning


def test_initializers_are_allocated_as_the_configuration_says(folder: Path) -> None:
    name = "session.use_device_allocator_for_initializers"
    assert options(opened(folder, **{name: "true"})).get_session_config_entry(name) == "1"


def test_the_arena_shrinks_after_each_run_where_the_configuration_says(folder: Path) -> None:
    name = "memory.enable_memory_arena_shrinkage"
    session = opened(folder, **{name: "cpu:0"})
    assert session._run_options.get_run_config_entry(name) == "cpu:0"
    [y] = session.run({"x": np.ones((3, 2), np.float32)}, ["y"])
    assert y.shape == (3, 2)


def test_an_accelerator_that_the_runtime_has_not_is_refused_with_the_cure(folder: Path) -> None:
    accelerator = 'cpu_execution_accelerator { name: "openvino" }'
    with pytest.raises(LoadFailed, match="install onnxruntime-openvino in its place"):
        opened(folder, f"optimization {{ execution_accelerators {{ {accelerator} }} }}")


def test_a_session_may_run_in_several_threads_at_once(folder: Path) -> None:
    session = opened(folder)
    shapes: list[tuple[int, ...]] = []

    def run(rows: int) -> None:
        for _ in range(20):
            [y] = session.run({"x": np.ones((rows, 2), np.float32)}, ["y"])
            shapes.append(y.shape)

    threads = [threading.Thread(target=run, args=(rows,)) for rows in (1, 2, 3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(shapes) == [(rows, 2) for rows in (1, 2, 3) for _ in range(20)]


def test_closing_a_session_twice_does_no_harm(folder: Path) -> None:
    session = opened(folder)
    session.close()
    session.close()
