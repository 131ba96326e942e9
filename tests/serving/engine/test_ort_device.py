"""Tensors are bound to the memory of a device, which here is the CPU: all but its copies is so."""

import ctypes
import threading
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper

from serving.config import Placement, parse
from serving.dtypes import Datatype
from serving.engine.backends import ort_device
from serving.engine.backends.ort import cuda_graphs, device_memory
from serving.engine.backends.ort_device import DeviceSession, Graphs, Memory
from serving.engine.backends.pinned import PinnedMemory
from serving.errors import Internal
from serving.types import Array
from tests.serving import drivers, graphs

# CUDA's runtime, which refuses to pin more than FAKE_CUDA_PINNABLE bytes at a time.
CUDART = r"""
#include <stdlib.h>
static int held = 0, current = 0;
int cudaSetDevice(int device) { current = device; return 0; }
int current_now(void) { return current; }
int cudaHostAlloc(void **place, size_t size, unsigned flags) {
  const char *most = getenv("FAKE_CUDA_PINNABLE");
  if (flags != 1 || (most && size > (size_t)atol(most))) return 2;
  *place = malloc(size); held++;
  return 0;
}
int cudaFreeHost(void *place) { free(place); held--; return 0; }
int held_now(void) { return held; }
"""
PLAIN = [each for each in Datatype if each not in (Datatype.BYTES, Datatype.BF16)]


def session(
    folder: Path, model: Any, recorded: Graphs | None = None, memory: Memory | None = None
) -> DeviceSession:
    path = graphs.write(model, folder / "model.onnx")
    made = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return DeviceSession(onnxruntime, made, path, lambda: None, memory or Memory("cpu"), recorded)


def numbers(rows: int, datatype: Datatype = Datatype.FP32) -> Array:
    return np.arange(1, 2 * rows + 1).reshape(rows, 2).astype(datatype.numpy)


@pytest.mark.parametrize("recorded", [None, Graphs((1, 2, 4, 8)), Graphs()])
def test_every_run_answers_with_its_own_rows(tmp_path: Path, recorded: Graphs | None) -> None:
    device = session(tmp_path, graphs.same(Datatype.FP32), recorded)
    inputs = [numbers(rows) * (number + 1) for number, rows in enumerate((1, 3, 3, 4, 8, 9, 3, 1))]
    answers = [device.run({"x": given}, ["y"])[0] for given in inputs]
    # Held together: no answer is overwritten by a later run.
    for given, answer in zip(inputs, answers, strict=True):
        np.testing.assert_array_equal(answer, given)


@pytest.mark.parametrize("datatype", PLAIN, ids=lambda each: each.name)
def test_every_type_of_numbers_goes_by_the_device(tmp_path: Path, datatype: Datatype) -> None:
    [answer] = session(tmp_path, graphs.same(datatype)).run({"x": numbers(2, datatype)}, ["y"])
    assert answer.dtype == datatype.numpy
    np.testing.assert_array_equal(answer, numbers(2, datatype))


def test_texts_and_empty_batches_are_left_to_the_runtime(tmp_path: Path) -> None:
    texts = np.array([[b"a", "ä".encode()]], dtype=object)
    [answer] = session(tmp_path, graphs.same(Datatype.BYTES)).run({"x": texts}, ["y"])
    assert answer.tolist() == texts.tolist()
    [nothing] = session(tmp_path, graphs.same(Datatype.FP32)).run({"x": numbers(0)}, ["y"])
    assert nothing.shape == (0, 2)


def test_outputs_may_be_of_another_shape_in_every_run(tmp_path: Path) -> None:
    graph = helper.make_graph(
        [helper.make_node("NonZero", ["x"], ["y"])],
        "places",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"])],
        [helper.make_tensor_value_info("y", TensorProto.INT64, [1, "k"])],
    )
    device = session(tmp_path, graphs.of(graph))
    for given in ([1, 0, 1], [1, 1, 1], [0, 0, 0], [0, 1, 0]):
        [places] = device.run({"x": np.array(given, np.float32)}, ["y"])
        assert places.tolist() == [[place for place, one in enumerate(given) if one]]


def test_a_batch_is_filled_up_to_a_size_of_which_there_is_a_graph(tmp_path: Path) -> None:
    # The whole batch's sum: what is filled up must be nothing.
    graph = helper.make_graph(
        [helper.make_node("CumSum", ["x", "axis"], ["y"])],
        "sums",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", 2])],
        [helper.make_tensor("axis", TensorProto.INT64, [1], [0])],
    )
    graph.node[0].attribute.append(helper.make_attribute("reverse", 1))
    device = session(tmp_path, graphs.of(graph), Graphs((1, 4, 8)))
    for rows in (4, 3, 2, 7, 5):
        given = numbers(rows)
        [sums] = device.run({"x": given}, ["y"])
        np.testing.assert_array_equal(sums, given[::-1].cumsum(axis=0)[::-1])


@pytest.mark.parametrize(
    ("shapes", "padded"),
    [
        ({"x": (3, 2)}, 4),
        ({"x": (4, 2)}, 4),
        ({"x": (5, 2)}, 0),
        ({"x": (2, 2), "z": (2,)}, 4),
        ({"x": (2, 2), "z": (3,)}, 0),
        ({"x": ()}, 0),
        ({"x": (3, 2), "z": ()}, 0),
    ],
)
def test_only_batches_are_filled_up(shapes: dict[str, tuple[int, ...]], padded: int) -> None:
    inputs = {name: np.zeros(shape) for name, shape in shapes.items()}
    assert Graphs((4,)).padded(inputs) == padded


def test_buffers_of_no_more_than_some_shapes_are_kept(tmp_path: Path) -> None:
    device = session(tmp_path, graphs.same(Datatype.FP32))
    for rows in range(1, 50):
        device.run({"x": numbers(rows)}, ["y"])
    assert len(device._idle) == 32
    device.close()
    assert not device._idle


def test_buffers_of_no_more_than_some_bytes_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ort_device, "_BYTES", 8 * (3 + 4))  # rows of two FP32
    device = session(tmp_path, graphs.same(Datatype.FP32))
    kept = []
    for rows in (1, 2, 3, 4, 3, 99):
        device.run({"x": numbers(rows)}, ["y"])
        kept.append([shape[0] for ((_, shape, _),), _ in device._idle])
    assert kept == [[1], [1, 2], [1, 2, 3], [3, 4], [4, 3], [99]]
    # Those of a graph stay with it.
    recorded = session(tmp_path, graphs.same(Datatype.FP32), Graphs())
    for rows in (1, 99):
        recorded.run({"x": numbers(rows)}, ["y"])
    assert len(recorded._idle) == 2


def test_a_session_may_run_in_several_threads_at_once(tmp_path: Path) -> None:
    device = session(tmp_path, graphs.same(Datatype.FP32))
    wrong: list[float] = []

    def run(factor: float) -> None:
        for _ in range(50):
            [answer] = device.run({"x": numbers(3) * np.float32(factor)}, ["y"])
            if not np.array_equal(answer, numbers(3) * np.float32(factor)):
                wrong.append(factor)

    threads = [threading.Thread(target=run, args=(factor,)) for factor in (1.0, 2.0, 3.0)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_what_fails_is_told_in_the_runtimes_words(tmp_path: Path) -> None:
    device = session(tmp_path, graphs.same(Datatype.FP32))
    with pytest.raises(Internal, match="onnx runtime error"):
        device.run({"x": np.ones((1, 3), np.float32)}, ["y"])


def test_pinned_memory_is_used_unless_the_configuration_says_not_to() -> None:
    assert device_memory(parse("", "c"), 1).staging is not np.empty
    off = parse("optimization { input_pinned_memory { enable: false } }", "c")
    assert device_memory(off, 1) == Memory("cuda", 1)


@pytest.mark.parametrize(
    ("text", "options", "graphs"),
    [
        ("max_batch_size: 6", {}, None),
        ("max_batch_size: 6", {"enable_cuda_graph": "True"}, Graphs((1, 2, 4, 6))),
        ("", {"enable_cuda_graph": "True"}, Graphs()),
    ],
)
def test_graphs_are_of_the_likely_batch_sizes(
    text: str, options: dict[str, str], graphs: Graphs | None
) -> None:
    assert cuda_graphs(parse(text, "c"), Placement(0, options)) == graphs


@pytest.fixture
def cudart(tmp_path: Path) -> Path:
    return drivers.compiled(CUDART, tmp_path / "runtime.so")


def test_pinned_memory_is_an_array_and_freed_with_its_last_view(
    tmp_path: Path, cudart: Path
) -> None:
    held = ctypes.CDLL(str(cudart)).held_now
    memory = PinnedMemory(str(cudart))
    device = session(tmp_path, graphs.same(Datatype.FP32), None, Memory("cpu", 0, memory.empty))
    [answer] = device.run({"x": numbers(3)}, ["y"])
    np.testing.assert_array_equal(answer, numbers(3))
    assert held() == 1
    device.close()
    assert held() == 0


def test_memory_is_pinned_by_the_gpu_that_it_is_for(cudart: Path) -> None:
    PinnedMemory(str(cudart), 3).empty((5,), np.dtype(np.float32))
    assert ctypes.CDLL(str(cudart)).current_now() == 3


def test_what_cannot_be_pinned_is_ordinary_memory(
    cudart: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("FAKE_CUDA_PINNABLE", "16")
    memory = PinnedMemory(str(cudart))
    array = memory.empty((5,), np.dtype(np.float32))
    array[:] = 1
    assert array.sum() == 5
    assert "20 bytes cannot be pinned (CUDA error 2)" in caplog.text


def test_without_cudas_runtime_memory_is_ordinary(caplog: pytest.LogCaptureFixture) -> None:
    memory = PinnedMemory("libthere-is-no-such.so.13")
    assert memory.empty((2, 3), np.dtype(np.int64)).shape == (2, 3)
    assert "inputs are not copied by pinned memory" in caplog.text
