"""Tensors are bound to the memory of a device, which here is the CPU: all but its copies is so."""

import ctypes
import threading
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper

from serving import breakdown
from serving.config import Placement, parse
from serving.dtypes import Datatype
from serving.engine.backends import ort_device
from serving.engine.backends.cuda_runtime import CudaRuntime
from serving.engine.backends.ort import cuda_graphs, device_memory
from serving.engine.backends.ort_device import DeviceSession, Graphs, Memory
from serving.engine.backends.pinned import PinnedMemory
from serving.errors import Internal
from serving.types import Array
from tests.serving import drivers, graphs

# CUDA's runtime, which refuses to pin more than FAKE_CUDA_PINNABLE bytes at a time. It keeps a
# thread's last error, and refuses to pin for threads that heed what others record.
CUDART = r"""
#include <stdlib.h>
static int held = 0, current = 0, recording = 0;
static __thread int last = 0, mode = 0;
int cudaSetDevice(int device) { current = device; return 0; }
int current_now(void) { return current; }
int cudaThreadExchangeStreamCaptureMode(int *wanted) {
  int before = mode; mode = *wanted; *wanted = before;
  return 0;
}
void record(int begins) { recording = begins; }
int cudaHostAlloc(void **place, size_t size, unsigned flags) {
  const char *most = getenv("FAKE_CUDA_PINNABLE");
  if (recording && mode == 0) return last = 900;
  if (flags != 1 || (most && size > (size_t)atol(most))) return last = 2;
  *place = malloc(size); held++;
  return 0;
}
int cudaFreeHost(void *place) { free(place); held--; return 0; }
int cudaGetLastError(void) { int error = last; last = 0; return error; }
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


class Listening:
    """A session of ONNX Runtime that keeps which CUDA graph each run was told to be of."""

    def __init__(self, session: Any) -> None:
        self._session = session
        self.graphs: list[str] = []

    def run(self, outputs: Any, feed: Any, options: Any) -> Any:
        self.graphs.append(options.get_run_config_entry("gpu_graph_id"))
        return self._session.run(outputs, feed, options)

    def run_with_iobinding(self, binding: Any, options: Any) -> None:
        self.graphs.append(options.get_run_config_entry("gpu_graph_id"))
        self._session.run_with_iobinding(binding, options)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)


def test_a_shape_is_recorded_once_it_has_outputs_and_what_goes_the_runtimes_way_never(
    tmp_path: Path,
) -> None:
    path = graphs.write(graphs.same(Datatype.FP32), tmp_path / "model.onnx")
    made = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    listening = Listening(made)
    device = DeviceSession(
        onnxruntime, listening, path, lambda: None, Memory("cpu"), Graphs((1, 2, 4))
    )
    for rows in (1, 1, 1, 3, 4, 0, 2, 1):
        device.run({"x": numbers(rows)}, ["y"])
    assert listening.graphs == ["-1", "0", "0", "-1", "1", "-1", "-1", "0"]


class Failing:
    """A session of ONNX Runtime on a GPU, of which every binding fails by `error`."""

    def __init__(self, session: Any, error: str) -> None:
        self._session = session
        self._error = error

    def io_binding(self) -> Any:
        raise RuntimeError(self._error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._session, name)


@pytest.mark.parametrize(
    ("error", "told", "is_lost"),
    [
        (
            "cuda_call.cc:154 CUDA failure 719: unspecified launch failure ; GPU=0 ; hostname=h",
            "CUDA error 719, unspecified launch failure: nothing runs on the GPU in this process",
            True,
        ),
        (
            "running Mul node. Name:'' Status Message: CUDA error cudaErrorIllegalAddress:an "
            "illegal memory access was encountered",
            "CUDA error 700, an illegal memory access was encountered: nothing runs on the GPU",
            True,
        ),
        (
            "CUDA error cudaErrorMemoryAllocation:out of memory",
            "CUDA error 2, out of memory: the memory of the GPU is full: fewer instances or",
            False,
        ),
        (
            "bfc_arena.cc:360 Failed to allocate memory for requested buffer of size 24000000\n",
            "the GPU has no 24000000 bytes of memory left: fewer instances or smaller batches",
            False,
        ),
        (
            "Available memory of 951296 is smaller than requested bytes of 24000000\n",
            "gpu_mem_limit leaves 951296 bytes of the GPU's memory, and 24000000 are needed",
            False,
        ),
        (
            "RequireCudnnHandle(cudnnHandle_t) [ONNXRuntimeError] : 9 : NOT_IMPLEMENTED : cuDNN is "
            "unavailable or disabled for CUDA Execution Provider: dlopen failed for libcudnn.so",
            "cuDNN is missing (dlopen failed for libcudnn.so): pip install 'penstock[gpu]'",
            False,
        ),
        ("CUDA failure 9: invalid configuration argument ; GPU=0", "CUDA failure 9: inv", False),
        ("the input is of another shape", "onnx runtime error: the input is of another", False),
    ],
)
def test_what_cuda_says_is_told_with_the_cure_and_a_lost_gpu_to_the_process(
    tmp_path: Path, error: str, told: str, is_lost: bool
) -> None:
    path = graphs.write(graphs.same(Datatype.FP32), tmp_path / "model.onnx")
    made = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    failing = Failing(made, error)
    device = DeviceSession(onnxruntime, failing, path, lambda: None, Memory("cpu", 3))
    reasons: list[str] = []
    with breakdown.watched(reasons.append), pytest.raises(Internal) as raised:
        device.run({"x": numbers(3)}, ["y"])
    assert told in raised.value.message
    assert [told in reason and "GPU 3 is lost" in reason for reason in reasons] == [True] * is_lost


def test_pinned_memory_is_used_unless_the_configuration_says_not_to() -> None:
    assert device_memory(parse("", "c"), 1).staging is not np.empty
    off = parse("optimization { input_pinned_memory { enable: false } }", "c")
    assert device_memory(off, 1).staging is np.empty


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
    memory = PinnedMemory(CudaRuntime(str(cudart)))
    device = session(tmp_path, graphs.same(Datatype.FP32), None, Memory("cpu", 0, memory.empty))
    [answer] = device.run({"x": numbers(3)}, ["y"])
    np.testing.assert_array_equal(answer, numbers(3))
    assert held() == 1
    device.close()
    assert held() == 0


def test_memory_is_pinned_by_the_gpu_that_it_is_for(cudart: Path) -> None:
    PinnedMemory(CudaRuntime(str(cudart)), 3).empty((5,), np.dtype(np.float32))
    assert ctypes.CDLL(str(cudart)).current_now() == 3


def test_what_cannot_be_pinned_is_ordinary_memory(
    cudart: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("FAKE_CUDA_PINNABLE", "16")
    memory = PinnedMemory(CudaRuntime(str(cudart)))
    array = memory.empty((5,), np.dtype(np.float32))
    array[:] = 1
    assert array.sum() == 5
    assert "20 bytes cannot be pinned (CUDA error 2)" in caplog.text
    # What the next kernel of this thread would be taken to fail with.
    assert ctypes.CDLL(str(cudart)).cudaGetLastError() == 0


def test_what_another_thread_records_concerns_nobody_else(tmp_path: Path, cudart: Path) -> None:
    runtime = CudaRuntime(str(cudart))
    pinned: list[bool] = []

    def empty(shape: tuple[int, ...], dtype: "np.dtype[Any]") -> Array:
        place = runtime.pin(8, 0)
        pinned.append(place is not None)
        if place is not None:
            runtime.unpin(place)
        return np.empty(shape, dtype)

    memory = Memory("cpu", 0, empty, runtime.enter)
    device = session(tmp_path, graphs.same(Datatype.FP32), None, memory)
    ctypes.CDLL(str(cudart)).record(1)
    thread = threading.Thread(target=device.run, args=({"x": numbers(3)}, ["y"]))
    thread.start()
    thread.join()
    assert pinned == [True]


def test_without_cudas_runtime_memory_is_ordinary(caplog: pytest.LogCaptureFixture) -> None:
    runtime = CudaRuntime("libthere-is-no-such.so.13")
    runtime.enter()
    assert PinnedMemory(runtime).empty((2, 3), np.dtype(np.int64)).shape == (2, 3)
    assert "inputs are not copied by pinned memory" in caplog.text
