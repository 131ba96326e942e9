"""The `parameters` of a configuration that mean something to us; all others are left alone."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from serving.config.source import Fault
from serving.config.text import Proto

_FLAGS: Final = {
    **dict.fromkeys(("true", "on", "1"), True),
    **dict.fromkeys(("false", "off", "0"), False),
}
_MAX_THREADS: Final = 1024
_MAX_TOKENS: Final = 4096
_NS_PER_MS: Final = 1_000_000

# Named as in ONNX Runtime, which is given them as they are.
ARENA_SHRINKAGE: Final = "memory.enable_memory_arena_shrinkage"
DEVICE_ALLOCATOR: Final = "session.use_device_allocator_for_initializers"


@dataclass(frozen=True, slots=True)
class RuntimeOptions:
    """What a configuration asks of an ONNX Runtime session; None leaves the choice to us.

    `graph_level` is Triton's: -1 basic optimisation, 1 extended, 2 none, anything else all.
    `arena_shrinkage` names the devices whose memory arena shrinks after each run, as `cpu:0` or
    `gpu:1`;
    `device_allocator` allocates initializers outside of it. With `share_session` the instances of
    a group share one session; `openvino` has OpenVINO execute what it can.
    """

    intra_op_threads: int | None
    inter_op_threads: int | None
    parallel: bool
    mem_arena: bool | None
    mem_pattern: bool | None
    graph_level: int
    arena_shrinkage: tuple[str, ...] = ()
    device_allocator: bool | None = None
    share_session: bool = False
    openvino: bool = False


def parameters(proto: Proto) -> dict[str, str]:
    """All parameters by name."""
    return {name: value.string_value for name, value in proto.parameters.items()}


def runtime_options(proto: Proto) -> RuntimeOptions:
    """The session options of a configuration that `parameter_faults` finds nothing wrong with."""
    values = _read(proto)
    return RuntimeOptions(
        intra_op_threads=values.get("intra_op_thread_count"),
        inter_op_threads=values.get("inter_op_thread_count"),
        parallel=values.get("execution_mode", False),
        mem_arena=values.get("enable_mem_arena"),
        mem_pattern=values.get("enable_mem_pattern"),
        graph_level=proto.optimization.graph.level,
        arena_shrinkage=values.get(ARENA_SHRINKAGE, ()),
        device_allocator=values.get(DEVICE_ALLOCATOR),
        share_session=values.get("share_session_between_instances", False),
        openvino=bool(proto.optimization.execution_accelerators.cpu_execution_accelerator),
    )


def reject_non_finite_inputs(proto: Proto) -> bool:
    """Whether requests that hold NaN or infinity are refused; our own parameter."""
    return bool(_read(proto).get("reject_non_finite_inputs", False))


def accelerator_tolerance(proto: Proto) -> float | None:
    """Within which share of a value, and beside that within how much, an accelerator's answers may
    differ; None where it is not said. Our own parameter."""
    tolerance: float | None = _read(proto).get("accelerator_tolerance")
    return tolerance


def splits_large_requests(proto: Proto) -> bool:
    """Whether requests of more than `max_batch_size` rows run as several; our own parameter."""
    return bool(_read(proto).get("split_large_requests", False))


def latency_objective(proto: Proto) -> int:
    """Within how many nanoseconds requests shall be answered, 0 for none; our own parameter."""
    return int(_read(proto).get("latency_objective_ms", 0) * _NS_PER_MS)


def generation_max_tokens(proto: Proto) -> int:
    """The most tokens that a request may ask for of a generated text; our own parameter."""
    return int(_read(proto).get("generation_max_tokens", _MAX_TOKENS))


def parameter_faults(proto: Proto) -> Iterator[Fault]:
    """A fault for each parameter whose value does not mean what it has to."""
    given = parameters(proto)
    for name, text in given.items():
        if name in _READERS:
            try:
                _READERS[name](text)
            except ValueError as error:
                message = f"parameter '{name}' is {text!r}, expected {error}"
                yield Fault(_at(name), message)
    arena = given.get("enable_mem_arena", "").lower()
    if "cpu:0" in given.get(ARENA_SHRINKAGE, "") and _FLAGS.get(arena) is False:
        yield Fault(
            _at(ARENA_SHRINKAGE),
            f"parameter '{ARENA_SHRINKAGE}' has no arena to shrink, since enable_mem_arena is "
            f"{arena}: leave out the one or the other",
        )


def _at(name: str) -> str:
    return f'parameters["{name}"]'


def _read(proto: Proto) -> dict[str, Any]:
    given = parameters(proto)
    return {name: read(given[name]) for name, read in _READERS.items() if name in given}


def _flag(text: str) -> bool:
    if text.lower() not in _FLAGS:
        raise ValueError("true or false")
    return _FLAGS[text.lower()]


def _milliseconds(text: str) -> float:
    """At least a nanosecond, as less would be 0, which stands for none."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 1 <= value * _NS_PER_MS < 2**63:
        raise ValueError("a number of milliseconds above 0, from 1e-6 to 9e12")
    return value


def _share(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < 1:
        raise ValueError("a number from 0 to below 1")
    return value


def _parallel(text: str) -> bool:
    if text.strip() not in ("0", "1"):
        raise ValueError("0 (sequential) or 1 (parallel)")
    return text.strip() == "1"


def _threads(text: str) -> int | None:
    """A number of threads; 0 and below leave the choice open, as Triton has it."""
    try:
        threads = int(text)
    except ValueError:
        threads = _MAX_THREADS + 1
    if threads > _MAX_THREADS:
        raise ValueError(f"a whole number up to {_MAX_THREADS}")
    return threads if threads > 0 else None


def _tokens(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and int(text) > 0):
        raise ValueError("a whole number above 0")
    return int(text)


def _arenas(text: str) -> tuple[str, ...]:
    devices = tuple(text.split(";"))
    if not all(re.fullmatch(r"cpu:0|gpu:\d+", device) for device in devices):
        raise ValueError("cpu:0, gpu:N, or both with a semicolon in between")
    return devices


def _prediction(text: str) -> str:
    if text not in ("image", "forecast", "translation"):
        raise ValueError("image, forecast or translation")
    return text


def _latent(text: str) -> str:
    if text != "normal":
        raise ValueError("normal")
    return text


def _columns(text: str) -> str:
    names = [name.strip() for name in text.split(",")]
    if not all(names) or len(set(names)) < len(names):
        raise ValueError("different names with commas in between")
    return text


# What each known parameter's text means; ValueError says what was expected.
_READERS: Final[dict[str, Callable[[str], bool | float | str | tuple[str, ...] | None]]] = {
    "intra_op_thread_count": _threads,
    "inter_op_thread_count": _threads,
    "execution_mode": _parallel,
    "enable_mem_arena": _flag,
    "enable_mem_pattern": _flag,
    ARENA_SHRINKAGE: _arenas,
    DEVICE_ALLOCATOR: _flag,
    "share_session_between_instances": _flag,
    "reject_non_finite_inputs": _flag,
    "latency_objective_ms": _milliseconds,
    "accelerator_tolerance": _share,
    "split_large_requests": _flag,
    "generation_max_tokens": _tokens,
    # How `/predict` reads inputs and renders outputs.
    "prediction": _prediction,
    "columns": _columns,
    "latent": _latent,
}
