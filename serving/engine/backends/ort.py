"""Executes ONNX models on ONNX Runtime."""

import ctypes
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias

import numpy as np

from serving import dtypes
from serving.config import CPU as ON_CPU
from serving.config import Placement, RuntimeOptions, runtime_options
from serving.config.parameters import ARENA_SHRINKAGE, DEVICE_ALLOCATOR
from serving.dtypes import Datatype
from serving.engine.backends import gpus
from serving.engine.backends.ort_errors import explain
from serving.engine.backends.runtime import CPU, CUDA, OPENVINO, TENSORRT, load_runtime
from serving.engine.backends.thread_plan import thread_plan
from serving.errors import Internal, LoadFailed
from serving.types import Array, Signature, TensorSpec

# A provider's name, and its options.
Provider: TypeAlias = tuple[str, Mapping[str, str]]

logger = logging.getLogger("penstock.load")

DEFAULT_FILENAME: Final = "model.onnx"
_BFLOAT16: Final = 16  # onnx.TensorProto.BFLOAT16


class OrtBackend:
    """Opens `model.onnx` (or the configuration's `default_model_filename`) of a version folder.

    `threads` is how many threads a model's sessions share where the configuration does not say.
    """

    def __init__(self, threads: int) -> None:
        self._threads = threads

    def open(self, config: Any, folder: Path, placement: Placement = ON_CPU) -> "OrtSession":
        """A session for the version in `folder`, where `placement` says and nowhere else."""
        runtime = load_runtime()
        path = folder / (config.default_model_filename or DEFAULT_FILENAME)
        if not path.is_file():
            raise LoadFailed(f"{path}: no such file; a version folder holds the model's file")
        wanted = runtime_options(config)
        share = thread_plan(config, self._threads).share
        options = _session_options(runtime, wanted, share)
        providers = _providers(runtime, wanted, placement, path)
        try:
            session = runtime.InferenceSession(
                os.fspath(path),
                options,
                providers=providers,
                # The runtime would try again on the CPU where a provider fails.
                enable_fallback=0,
            )
        except Exception as error:  # the runtime raises a class of its own per status code
            where = "" if placement.gpu is None else f" on {placement}"
            reason = _unloadable(runtime, placement) or explain(str(error), path)
            raise LoadFailed(
                f"{path}: ONNX Runtime {runtime.__version__} cannot load it{where}: {reason}"
            ) from error
        _refuse_fallback(runtime, session, providers, placement, path)
        return OrtSession(runtime, session, path, _run_options(runtime, wanted, placement))


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


def _providers(
    runtime: Any, wanted: RuntimeOptions, placement: Placement, path: Path
) -> list[Provider]:
    """What executes the graph, the first wherever it can."""
    if placement.gpu is not None:
        wanted_here = on_gpu(placement)
        for name, _ in wanted_here:
            if name not in runtime.get_available_providers():
                raise LoadFailed(_refusal(runtime, name, placement, path))
        gpus.preload(runtime)
        return wanted_here
    if not wanted.openvino:
        return [(CPU, {})]
    if OPENVINO not in runtime.get_available_providers():
        raise LoadFailed(
            f"{path}: the configuration wants the accelerator openvino, which ONNX Runtime "
            f"{runtime.__version__} was built without: install onnxruntime-openvino in its place, "
            "or leave the accelerator out"
        )
    return [(OPENVINO, {}), (CPU, {})]


def on_gpu(placement: Placement) -> list[Provider]:
    """What executes a graph on a GPU, in order: TensorRT if asked for, CUDA, and for what neither
    has an operator, the CPU."""
    device = {"device_id": str(placement.gpu)}
    cuda = (CUDA, {**placement.cuda, **device})
    if placement.tensorrt is None:
        return [cuda, (CPU, {})]
    return [(TENSORRT, {**placement.tensorrt, **device}), cuda, (CPU, {})]


def _refuse_fallback(
    runtime: Any, session: Any, providers: Sequence[Provider], placement: Placement, path: Path
) -> None:
    """LoadFailed where a session has not got a provider that it was to have; else says its order.

    ONNX Runtime warns on standard error of a provider that does not load, and goes on without it.
    """
    if placement.gpu is None:
        return
    wanted = [name for name, _ in providers]
    given = session.get_providers()
    for name in wanted:
        if name not in given:
            raise LoadFailed(_refusal(runtime, name, placement, path))
    logger.info("%s: executes on %s: %s", path, placement, ", then ".join(wanted))


def _unloadable(runtime: Any, placement: Placement) -> str:
    """What the libraries of a GPU's providers lack, if it is that; CUDA's are TensorRT's too."""
    if placement.gpu is None:
        return ""
    names = [name for name, _ in on_gpu(placement) if name != CPU]
    return next(filter(None, (gpus.unloadable(runtime, name) for name in reversed(names))), "")


def _refusal(runtime: Any, provider: str, placement: Placement, path: Path) -> str:
    return (
        f"{path}: is to execute on {placement}, and ONNX Runtime's {provider} does not load: "
        f"{gpus.why_not(runtime, provider)}"
    )


def _run_options(runtime: Any, wanted: RuntimeOptions, placement: Placement) -> Any:
    """The arenas that shrink after a run: of those that the configuration names the session's."""
    own = ("cpu:0", f"gpu:{placement.gpu}")
    devices = [device for device in wanted.arena_shrinkage if device in own]
    if not devices:
        return None
    options = runtime.RunOptions()
    options.add_run_config_entry(ARENA_SHRINKAGE, ";".join(devices))
    return options


class OrtSession:
    """One ONNX Runtime session; `run` may be called by several threads at a time."""

    def __init__(self, runtime: Any, session: Any, path: Path, run_options: Any = None) -> None:
        self._runtime = runtime
        self._session = session
        self._run_options = run_options
        optional = session.get_overridable_initializers()
        self._signature = Signature(
            inputs=(
                *(_spec(node, path) for node in session.get_inputs()),
                *(_spec(node, path, optional=True) for node in optional),
            ),
            outputs=tuple(_spec(node, path) for node in session.get_outputs()),
        )
        self._symbols = {
            node.name: tuple(dim if isinstance(dim, str) else "" for dim in node.shape)
            for node in (*session.get_inputs(), *optional, *session.get_outputs())
        }
        self._inputs = {spec.name: spec.datatype for spec in self._signature.inputs}
        self._outputs = {spec.name: spec.datatype for spec in self._signature.outputs}
        self._steady = session.get_providers() == [CPU] and all(
            size >= 0 for spec in self._signature.inputs for size in spec.dims[1:]
        )
        given, returned = set(self._inputs.values()), set(self._outputs.values())
        self._plain = not (given | returned) & {Datatype.BYTES, Datatype.BF16}
        # What numpy has no type for comes out of the runtime as a value of its own only.
        self._by_value = Datatype.BF16 in returned
        if self._by_value and Datatype.BYTES in given:
            raise LoadFailed(
                f"{path}: ONNX Runtime cannot be given texts where it returns BF16; export the "
                "model with FP32 outputs"
            )

    @property
    def signature(self) -> Signature:
        """The graph's own inputs and outputs."""
        return self._signature

    @property
    def steady(self) -> bool:
        """Whether nothing but the number of rows changes from run to run."""
        return self._steady

    @property
    def symbols(self) -> Mapping[str, tuple[str, ...]]:
        """What the graph calls each dimension of each tensor; "" where it has no name for it."""
        return self._symbols

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> list[Array]:
        """Execute one batch; raises Internal with the runtime's own words."""
        try:
            if self._plain:
                feed = {name: _aligned(array) for name, array in inputs.items()}
                arrays: list[Array] = self._session.run(outputs, feed, self._run_options)
                return arrays
            return self._run_converted(inputs, outputs)
        except Exception as error:  # the runtime raises a class of its own per status code
            raise Internal(f"onnx runtime error: {error}") from error

    def _run_converted(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> list[Array]:
        """As `run`, for the types that numpy and the runtime hold differently."""
        feed = {name: self._to_runtime(name, array) for name, array in inputs.items()}
        if self._by_value:
            values = {
                name: self._runtime.OrtValue.ortvalue_from_numpy(item)
                if isinstance(item, np.ndarray)
                else item
                for name, item in feed.items()
            }
            results = self._session.run_with_ort_values(outputs, values, self._run_options)
        else:
            results = self._session.run(outputs, feed, self._run_options)
        return [
            _from_runtime(result, self._outputs[name])
            for name, result in zip(outputs, results, strict=True)
        ]

    def _to_runtime(self, name: str, array: Array) -> Any:
        match self._inputs[name]:
            case Datatype.BYTES:
                return _mapped(array, bytes.decode)
            case Datatype.BF16:
                make = self._runtime.OrtValue.ortvalue_from_numpy_with_onnx_type
                return make(_aligned(array), _BFLOAT16)
            case _:
                return _aligned(array)

    def close(self) -> None:
        """Release the runtime's session."""
        self._session = None


def _aligned(array: Array) -> Array:
    """`array`, or a copy where it is a view into a request's body at an odd address."""
    flags = array.flags
    if flags.aligned and flags.c_contiguous:
        return array
    return array.copy(order="C")


def _mapped(texts: Array, convert: Callable[[Any], Any]) -> Array:
    """An array of objects: `convert` of each element of `texts`."""
    converted = np.empty(texts.shape, dtype=object)
    converted.reshape(-1)[:] = [convert(text) for text in texts.reshape(-1)]
    return converted


def _from_runtime(result: Any, datatype: Datatype) -> Array:
    """What the runtime returned for an output, an array or a value of its own, as an array."""
    if datatype is Datatype.BF16:
        words = ctypes.string_at(result.data_ptr(), result.tensor_size_in_bytes())
        return np.frombuffer(words, np.uint16).reshape(result.shape())
    array: Array = result if isinstance(result, np.ndarray) else result.numpy()
    return _mapped(array, str.encode) if datatype is Datatype.BYTES else array


def _spec(node: Any, path: Path, optional: bool = False) -> TensorSpec:
    datatype = dtypes.from_onnx(node.type)
    if datatype is None:
        raise LoadFailed(
            f"{path}: '{node.name}' is of type {node.type}, which the protocol cannot carry; "
            "export the model with tensors only"
        )
    dims = tuple(dim if isinstance(dim, int) else -1 for dim in node.shape)
    return TensorSpec(node.name, datatype, dims, optional)
