"""What only a GPU can tell; skipped where ONNX Runtime has none to execute on."""

from functools import cache
from pathlib import Path

import numpy as np
import pytest

from serving.config import CPU, Placement, parse
from serving.config.accelerators import SET, cuda_options, tensorrt_options
from serving.devices import Device, Gpus, Wish
from serving.dtypes import Datatype
from serving.engine.backends.gpus import find_gpus
from serving.engine.backends.ort import OrtBackend
from serving.engine.backends.ort_device import DeviceSession
from serving.engine.embedded import EmbeddedEngine
from serving.errors import LoadFailed
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
    [{}, {"enable_cuda_graph": SET}, {"gpu_mem_limit": "268435456"}, {"use_tf32": "False"}],
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


OPTIONS = {
    "cuda": {
        "gpu_mem_limit": "268435456",
        "arena_extend_strategy": "1",
        "cudnn_conv_algo_search": "1",
        "do_copy_in_default_stream": "1",
        "cudnn_conv_use_max_workspace": "0",
        "cudnn_conv1d_pad_to_nc1d": "0",
        "enable_skip_layer_norm_strict_mode": "0",
        "prefer_nhwc": "0",
        "fuse_conv_bias": "0",
        "tunable_op_enable": "0",
        "tunable_op_tuning_enable": "0",
        "tunable_op_max_tuning_duration_ms": "1000",
        "sdpa_kernel": "0",
    },
    "tensorrt": {
        "precision_mode": "FP16",
        "max_workspace_size_bytes": "1073741824",
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_prefix": "e",
        "trt_timing_cache_enable": "true",
        "trt_force_sequential_engine_build": "1",
        "trt_context_memory_sharing_enable": "0",
        "trt_layer_norm_fp32_fallback": "1",
        "trt_force_timing_cache": "off",
        "trt_detailed_build_log": "0",
        "trt_sparsity_enable": "0",
        "trt_min_subgraph_size": "1",
        "trt_max_partition_iterations": "1000",
        "trt_builder_optimization_level": "1",
        "trt_auxiliary_streams": "0",
        "trt_profile_min_shapes": "x:1x2",
        "trt_profile_opt_shapes": "x:4x2",
        "trt_profile_max_shapes": "x:8x2",
    },
}


@pytest.mark.parametrize("accelerator", OPTIONS)
def test_a_provider_takes_the_options_of_its_accelerator(
    gpus: Gpus, folder: Path, accelerator: str
) -> None:
    config = parse("max_batch_size: 8", "c")
    accelerators = config.optimization.execution_accelerators.gpu_execution_accelerator
    parameters = accelerators.add(name=accelerator).parameters
    parameters.update(OPTIONS[accelerator])
    if accelerator == "tensorrt":
        skip_without_tensorrt()
        parameters["trt_engine_cache_path"] = parameters["trt_timing_cache_path"] = str(folder)
    placement = Placement(gpus.ids[0], cuda_options(config), tensorrt_options(config))
    session = OrtBackend(threads=1).open(config, folder, placement)
    [answer] = session.run({"x": np.ones((3, 2), np.float32)}, ["y"])
    np.testing.assert_array_equal(answer, np.ones((3, 2), np.float32))


def skip_without_tensorrt() -> None:
    try:
        find_gpus(Wish(Device.TENSORRT))
    except LoadFailed as error:
        pytest.skip(error.message)


async def test_tensorrt_takes_over_from_cuda(gpus: Gpus, tmp_path: Path) -> None:
    skip_without_tensorrt()
    add(tmp_path)
    settings = Settings(model_repository=(tmp_path,), passport_policy=PassportPolicy.OFF)
    engine = EmbeddedEngine(settings)
    try:
        await engine.start()
        state, reason = await settled(engine, seconds=600)
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
