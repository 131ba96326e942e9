"""Builds engines with TensorRT's own Python interface."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from export.engine_key import Profile
from export.engine_target import begun, tensorrt
from export.errors import EngineRefused

PRECISIONS: Final = ("fp32", "fp16", "int8")
WORKSPACE: Final = 1 << 30  # bytes, as Triton's default for its accelerator


@dataclass(frozen=True, slots=True)
class Built:
    """A serialised engine, and what was learnt of the GPU's kernels, for the next build there."""

    plan: bytes
    timing: bytes


def build(
    graph: bytes,
    shapes: Mapping[str, Profile],
    precision: str,
    timing: bytes = b"",
    on_progress: Callable[[str], None] = lambda _: None,
) -> Built:
    """An engine of an ONNX graph in one of PRECISIONS; of int8 the graph has the ranges (QDQ).

    `timing` is what an earlier build has learnt; `on_progress` hears of phases and their steps.
    EngineRefused, with TensorRT's own words, where it cannot.
    """
    trt = tensorrt()
    errors: list[str] = []
    logger = _logger(trt, errors)
    builder = begun(trt.Builder, logger, errors)
    network = builder.create_network(0)
    parser = trt.OnnxParser(network, logger)
    if not parser.parse(graph):
        said = [parser.get_error(index).desc() for index in range(parser.num_errors)]
        raise EngineRefused(f"TensorRT cannot read the graph: {'; '.join(said)}")
    config = builder.create_builder_config()
    config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, WORKSPACE)
    _set_precision(trt, config, precision)
    profile = builder.create_optimization_profile()
    for name, shape in shapes.items():
        profile.set_shape(name, shape.smallest, shape.likely, shape.largest)
    config.add_optimization_profile(profile)
    # One of another version is none, and one of a GPU with other properties is not taken.
    cache = config.create_timing_cache(timing)
    if not (cache and config.set_timing_cache(cache, False)):
        config.set_timing_cache(config.create_timing_cache(b""), False)
    config.progress_monitor = _monitor(trt, on_progress)
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise EngineRefused(f"TensorRT cannot build an engine: {'; '.join(errors) or 'no reason'}")
    return Built(bytes(plan), bytes(config.get_timing_cache().serialize()))


def _set_precision(trt: Any, config: Any, precision: str) -> None:
    # TF32 keeps 10 bits of a product's factors, which fp32 is not to do.
    config.clear_flag(trt.BuilderFlag.TF32)
    if precision != "fp32":
        config.set_flag(getattr(trt.BuilderFlag, precision.upper()))


def _logger(trt: Any, errors: list[str]) -> Any:
    """Keeps what goes wrong, for the refusal; TensorRT would print it."""

    class Logger(trt.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.Logger.INTERNAL_ERROR, trt.Logger.ERROR):
                errors.append(message)

    return Logger()


def _monitor(trt: Any, on_progress: Callable[[str], None]) -> Any:
    steps: dict[str, int] = {}

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)

        def phase_start(self, phase: str, parent: str | None, count: int) -> None:
            steps[phase] = count
            on_progress(phase)

        def step_complete(self, phase: str, step: int) -> bool:
            on_progress(f"{phase} {step + 1}/{steps.get(phase, step + 1)}")
            return True  # go on

        def phase_finish(self, phase: str) -> None:
            steps.pop(phase, None)

    return Monitor()
