"""A version serves without its accelerator at once, and by it once that is built and right."""

import logging
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import onnxruntime
import pytest
from onnx import TensorProto, helper

from serving.config import CPU
from serving.devices import Gpus
from serving.engine import acceleration, embedded
from serving.engine.backends.base import Session
from serving.engine.backends.ort import OrtBackend
from serving.engine.embedded import EmbeddedEngine
from serving.engine_settings import AcceleratorBuild
from serving.errors import LoadFailed
from serving.settings import ModelControlMode, PassportPolicy, Settings
from serving.statistics import BuildState
from serving.types import InferenceRequest, LoadOverride
from tests import sequence_models
from tests.serving import graphs
from tests.serving.engine.accelerating import ASKS, Accelerating, add, settled, times
from tests.serving.engine.models import tensor
from tests.serving.engine.numbered import PLAIN, SECONDS, index

SERVES = "serves on GPU 0; builds TensorRT aside"


@pytest.fixture(autouse=True)
def _gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is one to be placed on; what is opened there, the backends of these tests say."""
    monkeypatch.setattr(embedded, "find_gpus", lambda wish: Gpus((0,)))
    monkeypatch.setattr(acceleration, "_GRACE_SECONDS", 0.01)


@pytest.fixture
def backend() -> Accelerating:
    return Accelerating()


@asynccontextmanager
async def engine_over(
    root: Path, backend: Accelerating, *models: str, **settings: Any
) -> AsyncIterator[EmbeddedEngine]:
    engine = EmbeddedEngine(
        Settings(
            model_repository=(root,),
            model_control_mode=ModelControlMode.EXPLICIT,
            passport_policy=PassportPolicy.OFF,
            load_model=models,
            **settings,
        ),
        {"onnxruntime": backend},
    )
    try:
        await engine.start()
        yield engine
    finally:
        await engine.close()
        backend.building.open()


async def ask(engine: EmbeddedEngine, value: float, model: str = "m", **parameters: Any) -> float:
    inputs = (tensor([[value, 0]], "x"),)
    response = await engine.infer(InferenceRequest(model, inputs, parameters=parameters))
    return float(response.outputs[0].array[0, 0])


def of_another_graph(root: Path, factor: float) -> Accelerating:
    """A backend whose accelerator computes something else."""
    graphs.write(times(factor), root / "model.onnx")
    return Accelerating(lambda config, folder: OrtBackend(threads=1).open(config, root, CPU))


async def test_it_answers_while_the_accelerator_is_built_and_by_it_from_then_on(
    tmp_path: Path, backend: Accelerating, caplog: pytest.LogCaptureFixture
) -> None:
    add(tmp_path)
    backend.building.shut()
    with caplog.at_level(logging.INFO, "penstock.load"):
        async with engine_over(tmp_path, backend, "m") as engine:
            await backend.building.reached(1)
            assert await ask(engine, 3) == 6
            assert await index(engine) == [("m", "1", "READY", SERVES)]
            [statistics] = await engine.statistics("m")
            assert statistics.acceleration is BuildState.BUILDING
            backend.building.open()
            assert await settled(engine) == (BuildState.IN_USE, "")
            plain, built = backend.sessions
            assert (plain.placement.accelerator, built.placement.accelerator) == ("", "TensorRT")
            runs = built.runs
            assert await ask(engine, 4) == 8
            assert (built.runs, plain.closed, built.closed) == (runs + 1, True, False)
            assert (await engine.statistics("m"))[0].success.count == 2
    assert backend.alive == []
    said = " ".join(caplog.messages)
    assert f"m version 1: {SERVES}" in said
    assert "m version 1: swapped to TensorRT after " in said
    assert "parity max difference 0, p50 of 1 row " in said


async def test_each_instance_is_exchanged_and_a_shared_session_once(
    tmp_path: Path, backend: Accelerating
) -> None:
    add(tmp_path, "m", "instance_group { kind: KIND_GPU count: 2 } max_batch_size: 2")
    shared = 'parameters { key: "share_session_between_instances" value { string_value: "1" } }'
    add(tmp_path, "n", f"{shared} instance_group {{ kind: KIND_CPU }} max_batch_size: 2")
    async with engine_over(tmp_path, backend, "m", "n") as engine:
        for name in "mn":
            assert await settled(engine, name) == (BuildState.IN_USE, "")
        assert sorted(backend.alive) == ["GPU 0 by TensorRT"] * 4 + ["the CPU"]
    assert backend.alive == []


async def test_an_accelerator_that_answers_otherwise_is_not_taken(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    add(tmp_path / "models")
    backend = of_another_graph(tmp_path, 2.1)
    async with engine_over(tmp_path / "models", backend, "m") as engine:
        state, reason = await settled(engine)
        assert state is BuildState.REFUSED
        assert reason.startswith("serves without TensorRT: output 'y'[")
        assert reason.endswith("within 0.01 + 0.01 of the value (parameter accelerator_tolerance)")
        assert await ask(engine, 3) == 6
        assert backend.alive == ["GPU 0"]
    assert f"m version 1: {reason}" in caplog.text


async def test_how_much_the_answers_may_differ_a_parameter_says(tmp_path: Path) -> None:
    more = 'parameters { key: "accelerator_tolerance" value { string_value: "0.2" } }'
    add(tmp_path / "models", config=more)
    async with engine_over(tmp_path / "models", of_another_graph(tmp_path, 2.1), "m") as engine:
        assert await settled(engine) == (BuildState.IN_USE, "")
        assert await ask(engine, 3) == pytest.approx(6.3)


async def test_an_accelerator_that_does_not_open_leaves_what_serves(tmp_path: Path) -> None:
    def fails(config: Any, folder: Path) -> Session:
        raise LoadFailed("there is no kernel for it")

    add(tmp_path)
    async with engine_over(tmp_path, Accelerating(fails), "m") as engine:
        told = "serves without TensorRT: there is no kernel for it"
        assert await settled(engine) == (BuildState.REFUSED, told)
        assert await ask(engine, 3) == 6


async def test_a_bug_of_an_accelerator_leaves_what_serves_and_the_next_is_built(
    tmp_path: Path,
) -> None:
    def breaks(config: Any, folder: Path) -> Session:
        raise RuntimeError(folder.parent.name)

    for name in "mn":
        add(tmp_path, name)
    async with engine_over(tmp_path, Accelerating(breaks), "m", "n") as engine:
        for name in "mn":
            told = f"serves without TensorRT: RuntimeError('{name}')"
            assert await settled(engine, name) == (BuildState.REFUSED, told)


async def test_one_is_built_at_a_time(tmp_path: Path, backend: Accelerating) -> None:
    names = ("k", "l", "m")
    for name in names:
        add(tmp_path, name)
    backend.building.shut()
    async with engine_over(tmp_path, backend, *names) as engine:
        await backend.building.reached(1)
        backend.building.open()
        for name in names:
            await settled(engine, name)
    assert backend.most_at_once == 1


@pytest.mark.parametrize("change", ["unloaded", "replaced"])
async def test_what_is_built_for_a_version_that_has_gone_is_thrown_away(
    tmp_path: Path, backend: Accelerating, change: str
) -> None:
    add(tmp_path, "m")
    add(tmp_path, "next")
    backend.building.shut()
    async with engine_over(tmp_path, backend, "m") as engine:
        await backend.building.reached(1)
        if change == "unloaded":
            await engine.unload("m")
        else:
            add(tmp_path, "m", "max_batch_size: 2")
            await engine.load("m", PLAIN)
        await engine.load("next", PLAIN)
        backend.building.open()
        await settled(engine, "next")
        thrown = next(one for one in backend.sessions if one.placement.accelerator)
        assert thrown.closed
        assert thrown.runs == 0


async def test_the_server_stops_while_an_accelerator_is_built(
    tmp_path: Path, backend: Accelerating, caplog: pytest.LogCaptureFixture
) -> None:
    add(tmp_path)
    backend.building.shut()
    with caplog.at_level(logging.INFO, "penstock.load"):
        async with engine_over(tmp_path, backend, "m"):
            await backend.building.reached(1)
            assert backend.alive == ["GPU 0"]
    assert "an accelerator that is being built is given up" in caplog.text
    assert [session.closed for session in backend.sessions[:1]] == [True]
    for each in threading.enumerate():
        if each.name == "penstock-accelerate":
            each.join(SECONDS)
    assert backend.alive == []


async def test_the_load_waits_for_the_accelerator_where_the_server_is_told_so(
    tmp_path: Path, backend: Accelerating
) -> None:
    add(tmp_path)
    build = AcceleratorBuild.LOAD
    async with engine_over(tmp_path, backend, "m", accelerator_build=build) as engine:
        assert await settled(engine) == (None, "")
        assert backend.alive == ["GPU 0 by TensorRT"]


async def test_a_runtime_that_would_stop_all_threads_builds_before_it_serves(
    tmp_path: Path,
    backend: Accelerating,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(onnxruntime, "__version__", "1.30.0")
    add(tmp_path)
    with caplog.at_level(logging.INFO, "penstock.load"):
        async with engine_over(tmp_path, backend, "m") as engine:
            assert await settled(engine) == (None, "")
            assert backend.alive == ["GPU 0 by TensorRT"]
    assert "m: TensorRT is built before it serves: this ONNX Runtime would stop" in caplog.text


async def test_what_only_the_accelerator_can_execute_is_opened_with_it(tmp_path: Path) -> None:
    # As export publishes an engine: ONNX Runtime has no such operator elsewhere.
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 2]) for name in "xy")
    node = helper.make_node("EPContext", ["x"], ["y"], domain="com.microsoft", embed_mode=0)
    made = graphs.of(helper.make_graph([node], "engine", [x], [y]))
    made.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    add(tmp_path / "models", graph=made)
    async with engine_over(tmp_path / "models", of_another_graph(tmp_path, 5), "m") as engine:
        assert await settled(engine) == (None, "")
        assert await ask(engine, 3) == 15


async def test_files_that_come_with_a_load_are_opened_with_the_accelerator(
    tmp_path: Path, backend: Accelerating
) -> None:
    file = add(tmp_path)
    given = LoadOverride(
        '{"backend": "onnxruntime", "max_batch_size": 2, "instance_group": [{"kind": "KIND_GPU"}], '
        '"optimization": {"execution_accelerators": {"gpu_execution_accelerator": '
        '[{"name": "tensorrt"}]}}}',
        {"1/model.onnx": file.read_bytes()},
    )
    async with engine_over(tmp_path, backend) as engine:
        await engine.load("m", given)
        assert await settled(engine) == (None, "")
        assert backend.alive == ["GPU 0 by TensorRT"]


async def test_sequences_go_on_where_they_were(tmp_path: Path, backend: Accelerating) -> None:
    text = sequence_models.adder_config(more=ASKS)
    sequence_models.add(tmp_path, "m", sequence_models.adder(), text)
    backend.building.shut()
    async with engine_over(tmp_path, backend, "m") as engine:

        async def step(x: float, **flags: bool) -> float:
            parameters = {"sequence_id": 7, **flags}
            given = InferenceRequest("m", (tensor([[x]], "x"),), parameters=parameters)
            return float((await engine.infer(given)).outputs[0].array[0, 0])

        assert await step(1, sequence_start=True) == 1
        assert await step(2) == 3
        backend.building.open()
        assert await settled(engine) == (BuildState.IN_USE, "")
        assert await step(4, sequence_end=True) == 7


async def test_samples_are_what_answers_are_compared_by(tmp_path: Path) -> None:
    # The two agree on zeros alone.
    zeros = (
        'model_warmup { name: "zeros" batch_size: 2 inputs { key: "x" value '
        "{ data_type: TYPE_FP32 dims: 2 zero_data: true } } }"
    )
    add(tmp_path / "models", config=zeros + "max_batch_size: 2")
    async with engine_over(tmp_path / "models", of_another_graph(tmp_path, 99), "m") as engine:
        assert await settled(engine) == (BuildState.IN_USE, "")


async def test_without_inputs_to_compare_by_it_is_not_taken(
    tmp_path: Path, backend: Accelerating
) -> None:
    # Only rows of twos: what is made up is refused by the graph.
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", "k"])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])
    shape = helper.make_tensor("shape", TensorProto.INT64, [2], [-1, 2])
    node = helper.make_node("Reshape", ["x", "shape"], ["y"])
    add(tmp_path, graph=graphs.of(helper.make_graph([node], "g", [x], [y], [shape])))
    async with engine_over(tmp_path, backend, "m") as engine:
        state, reason = await settled(engine)
        assert state is BuildState.REFUSED
        assert "serves without TensorRT: it refuses made-up inputs (onnx runtime error" in reason
        assert reason.endswith("give real ones as model_warmup")
        assert await ask(engine, 3) == 3
        assert len(backend.sessions) == 1


async def test_times_are_forecast_anew_once_another_session_runs(
    tmp_path: Path, backend: Accelerating
) -> None:
    add(tmp_path)
    told: list[dict[int, int]] = []
    backend.building.shut()
    async with engine_over(tmp_path, backend, "m") as engine:
        served = next(iter(engine._registry)).serving["1"].servable.opened
        assert served.acceleration is not None
        served.acceleration.watch(lambda times: told.append(dict(times)))
        backend.building.open()
        await settled(engine)
        # The loop's next turns.
        while not told:
            await engine.index()
    assert [list(each) for each in told] == [[1, 2, 4]]
    assert min(told[0].values()) > 0
