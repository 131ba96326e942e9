"""Executes ONNX models on ONNX Runtime."""

import os
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Final

from serving.config import (
    CPU,
    LEFT_OUT,
    Placement,
    RuntimeOptions,
    Traits,
    left_out,
    likely_batch_sizes,
    runtime_options,
    traits,
)
from serving.config.parameters import ARENA_SHRINKAGE, DEVICE_ALLOCATOR
from serving.engine.backends import cuda_errors, weight_files
from serving.engine.backends.cuda_runtime import CudaRuntime
from serving.engine.backends.gpus import cuda_major
from serving.engine.backends.ort_device import DeviceSession, Graphs, Memory
from serving.engine.backends.ort_errors import explain
from serving.engine.backends.ort_providers import (
    RECORDS,
    providers,
    refuse_fallback,
    unloadable,
)
from serving.engine.backends.ort_session import HostSession, OrtSession
from serving.engine.backends.pinned import PinnedMemory
from serving.engine.backends.runtime import load_runtime
from serving.engine.backends.thread_plan import thread_plan
from serving.errors import LoadFailed

DEFAULT_FILENAME: Final = "model.onnx"
_NEEDS_ROWS: Final = frozenset({b"LSTM", b"DynamicQuantizeLSTM"})


class OrtBackend:
    """Opens `model.onnx` (or the configuration's `default_model_filename`) of a version folder.

    `threads` is how many threads a model's sessions share where the configuration does not say.
    """

    def __init__(self, threads: int) -> None:
        self._threads = threads

    def open(self, config: Any, folder: Path, placement: Placement = CPU) -> OrtSession:
        """A session for the version in `folder`, where `placement` says and nowhere else."""
        runtime = load_runtime()
        path = folder / (config.default_model_filename or DEFAULT_FILENAME)
        if not path.is_file():
            raise LoadFailed(f"{path}: no such file; a version folder holds the model's file")
        wanted = runtime_options(config)
        share = thread_plan(config, self._threads).share
        options = _session_options(runtime, wanted, share)
        found = traits(path)
        weight_files.check(path, found.places)
        options.add_session_config_entry(
            LEFT_OUT, left_out(found, placement.gpu is None, _sizes_stated(config))
        )
        chosen = providers(runtime, wanted, placement, path)
        if placement.gpu is not None:
            options.add_session_config_entry(RECORDS, "1")
            cuda_runtime().enter()
        try:
            session = runtime.InferenceSession(
                os.fspath(path),
                options,
                providers=chosen,
                # The runtime would try again on the CPU where a provider fails.
                enable_fallback=0,
            )
        except Exception as error:  # the runtime raises a class of its own per status code
            where = "" if placement.gpu is None else f" on {placement}"
            reason = (
                unloadable(runtime, placement)
                or (where and cuda_errors.explain(str(error)))
                or explain(str(error), path)
            )
            raise LoadFailed(
                f"{path}: ONNX Runtime {runtime.__version__} cannot load it{where}: {reason}"
            ) from error
        run_options = partial(_run_options, runtime, wanted, placement)
        if placement.gpu is None:
            fails_on_nothing = _fails_on_nothing(found, config)
            return HostSession(runtime, session, path, run_options(), fails_on_nothing)
        refuse_fallback(runtime, session, chosen, placement, path)
        memory = device_memory(config, placement.gpu)
        return DeviceSession(
            runtime, session, path, run_options, memory, cuda_graphs(config, placement)
        )


def _sizes_stated(config: Any) -> bool:
    """Whether no client may send anything but one size of each input, by the configuration."""
    rows = 0 if config.max_batch_size else 1
    return bool(config.input) and all(
        size > 0 for tensor in config.input for size in tensor.dims[rows:]
    )


def _fails_on_nothing(found: Traits, config: Any) -> frozenset[bytes]:
    """The operators of the graph by which inputs without elements would end the process.

    The runtime's GRU does, as RNN did before 1.31, and LSTM where there are no rows, which a model
    that batches always has."""
    return found.fails_on_nothing - (_NEEDS_ROWS if config.max_batch_size > 0 else frozenset())


def device_memory(config: Any, gpu: int) -> Memory:
    """A GPU's, to which inputs are copied by pinned memory unless the configuration says not to."""
    optimization, runtime = config.optimization, cuda_runtime()
    if optimization.HasField("input_pinned_memory") and not optimization.input_pinned_memory.enable:
        return Memory("cuda", gpu, enter=runtime.enter)
    return Memory("cuda", gpu, PinnedMemory(runtime, gpu).empty, runtime.enter)


@lru_cache
def cuda_runtime() -> CudaRuntime:
    """CUDA's, of the release that ONNX Runtime is built for."""
    return CudaRuntime(f"libcudart.so.{cuda_major()}")


def cuda_graphs(config: Any, placement: Placement) -> Graphs | None:
    """CUDA graphs where a provider is told to record them."""
    if not placement.records_graphs:
        return None
    return Graphs(tuple(likely_batch_sizes(config)) if config.max_batch_size else ())


def _session_options(runtime: Any, wanted: RuntimeOptions, share: int) -> Any:
    """What a session is made with that has a `share` of so many threads."""
    options = runtime.SessionOptions()
    options.log_severity_level = 4  # errors are raised; the runtime would print them as well
    options.intra_op_num_threads = wanted.intra_op_threads or share
    # With one thread between operators, the runtime would make nothing of the parallel mode.
    between = share if wanted.parallel else 1
    options.inter_op_num_threads = wanted.inter_op_threads or between
    # Threads that spin while they wait for work take the processor from the gateway.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    if wanted.parallel:
        options.execution_mode = runtime.ExecutionMode.ORT_PARALLEL
    if wanted.mem_arena is not None:
        options.enable_cpu_mem_arena = wanted.mem_arena
    if wanted.mem_pattern is not None:
        options.enable_mem_pattern = wanted.mem_pattern
    if wanted.device_allocator is not None:
        options.add_session_config_entry(DEVICE_ALLOCATOR, str(int(wanted.device_allocator)))
    levels = runtime.GraphOptimizationLevel
    options.graph_optimization_level = {
        -1: levels.ORT_ENABLE_BASIC,
        1: levels.ORT_ENABLE_EXTENDED,
        2: levels.ORT_DISABLE_ALL,
    }.get(wanted.graph_level, levels.ORT_ENABLE_ALL)
    return options


def _run_options(runtime: Any, wanted: RuntimeOptions, placement: Placement) -> Any:
    """The arenas that shrink after a run: of those that the configuration names the session's."""
    own = ("cpu:0", f"gpu:{placement.gpu}")
    devices = [device for device in wanted.arena_shrinkage if device in own]
    if not devices:
        return None
    options = runtime.RunOptions()
    options.add_run_config_entry(ARENA_SHRINKAGE, ";".join(devices))
    return options
