"""What only a GPU can tell; skipped where ONNX Runtime has none to execute on."""

from functools import cache
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from serving.config import CPU, Placement, parse
from serving.devices import Gpus, Wish
from serving.dtypes import Datatype
from serving.engine.backends.gpus import find_gpus
from serving.engine.backends.ort import OrtBackend
from serving.engine.backends.ort_device import DeviceSession
from serving.engine.backends.runtime import TENSORRT
from serving.engine.embedded import EmbeddedEngine
from serving.settings import PassportPolicy, Settings
from serving.statistics import BuildState
from serving.types import InferenceRequest, Tensor
from tests.serving import graphs
from tests.serving.engine.accelerating import add, settled

found = cache(lambda: find_gpus(Wish()))


@pytest.fixture
def gpus() -> Gpus:
    if not found().ids:
        pytest.skip(f"no GPU: {found().missing}")
    return found()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    graphs.write(graphs.same(Datatype.FP32), tmp_path / "model.onnx")
    return tmp_path


@pytest.mark.parametrize(
    "options",
    [{}, {"enable_cuda_graph": "1"}, {"gpu_mem_limit": "268435456"}, {"use_tf32": "0"}],
    ids=["plain", "graphs", "capped", "exact"],
)
def test_every_gpu_answers_as_the_cpu_does(
    gpus: Gpus, folder: Path, options: dict[str, str]
) -> None:
    config = parse("max_batch_size: 8", "c")
    on_cpu = OrtBackend(threads=1).open(config, folder, CPU)
    for gpu in gpus.ids:
        session = OrtBackend(threads=1).open(config, folder, Placement(gpu, options))
        assert isinstance(session, DeviceSession)
        for rows in (1, 3, 8, 3, 8, 1):
            given = {"x": np.arange(2 * rows, dtype=np.float32).reshape(rows, 2)}
            np.testing.assert_array_equal(session.run(given, ["y"]), on_cpu.run(given, ["y"]))
        session.close()


async def test_tensorrt_takes_over_from_cuda(gpus: Gpus, tmp_path: Path) -> None:
    if TENSORRT not in onnxruntime.get_available_providers():
        pytest.skip("this ONNX Runtime has no TensorRT")
    add(tmp_path)
    settings = Settings(model_repository=(tmp_path,), passport_policy=PassportPolicy.OFF)
    engine = EmbeddedEngine(settings)
    try:
        await engine.start()
        state, reason = await settled(engine, seconds=600)
        if "does not load" in reason:
            pytest.skip(reason)
        assert (state, reason) == (BuildState.IN_USE, "")
        given = Tensor("x", Datatype.FP32, np.ones((3, 2), np.float32))
        answer = await engine.infer(InferenceRequest("m", (given,)))
        np.testing.assert_allclose(answer.outputs[0].array, np.full((3, 2), 2), rtol=0.01)
    finally:
        await engine.close()


def test_the_arena_of_a_gpu_shrinks_where_the_configuration_says(gpus: Gpus, folder: Path) -> None:
    text = (
        'parameters { key: "memory.enable_memory_arena_shrinkage" '
        f'value {{ string_value: "cpu:0;gpu:{gpus.ids[0]}" }} }}'
    )
    session = OrtBackend(threads=1).open(parse(text, "c"), folder, Placement(gpus.ids[0]))
    for _ in range(3):
        [answer] = session.run({"x": np.ones((3, 2), np.float32)}, ["y"])
        assert answer.shape == (3, 2)
