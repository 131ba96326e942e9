"""What a replaced version held is given back: reloads do not add up in the process's memory."""

import asyncio
import ctypes
import gc
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from serving.engine.backends.ort import OrtBackend
from serving.engine.embedded import EmbeddedEngine
from serving.settings import ModelControlMode, PassportPolicy, Settings
from tests.serving.engine.numbered import PLAIN

SIDE = 2048
WEIGHTS = 4 * SIDE * SIDE  # 16 MiB
RELOADS = 25
LIBC = ctypes.CDLL(None)


def write_graph(path: Path) -> None:
    """A layer of `WEIGHTS` bytes."""
    weights = numpy_helper.from_array(np.ones((SIDE, SIDE), np.float32), "w")
    ends = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", SIDE])
        for name in ("x", "y")
    ]
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    graph = helper.make_graph([node], "g", ends[:1], ends[1:], [weights])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.parent.mkdir(parents=True)
    path.write_bytes(model.SerializeToString())


def resident() -> int:
    """Bytes of this process that are in memory, without those that are free already."""
    gc.collect()
    if hasattr(LIBC, "malloc_trim"):
        LIBC.malloc_trim(0)
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE")


@pytest.mark.skipif(sys.platform != "linux", reason="reads what Linux says of a process")
async def test_reloads_give_back_what_the_replaced_version_held(tmp_path: Path) -> None:
    file = tmp_path / "m" / "1" / "model.onnx"
    write_graph(file)
    engine = EmbeddedEngine(
        Settings(
            model_repository=(tmp_path,),
            model_control_mode=ModelControlMode.EXPLICIT,
            passport_policy=PassportPolicy.OFF,
        ),
        {"onnxruntime": OrtBackend(threads=1)},
    )
    await engine.start()
    try:
        sizes = []
        for _ in range(RELOADS):
            file.touch()
            await engine.load("m", PLAIN)
            await asyncio.sleep(0)
            sizes.append(resident())
        # The first ones may grow to what a reload needs; were nothing freed, the others would
        # add twenty times the weights.
        assert sizes[-1] - sizes[4] < 8 * WEIGHTS
    finally:
        await engine.close()
