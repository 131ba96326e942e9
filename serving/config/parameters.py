"""The `parameters` of a configuration that mean something to us; all others are left alone."""

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


@dataclass(frozen=True, slots=True)
class RuntimeOptions:
    """What a configuration asks of an ONNX Runtime session; None leaves the choice to us.

    `graph_level` is Triton's: -1 basic optimisation, 1 extended, 2 none, anything else all.
    """

    intra_op_threads: int | None
    inter_op_threads: int | None
    parallel: bool
    mem_arena: bool | None
    mem_pattern: bool | None
    graph_level: int


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
    )


def reject_non_finite_inputs(proto: Proto) -> bool:
    """Whether requests that hold NaN or infinity are refused; our own parameter."""
    return bool(_read(proto).get("reject_non_finite_inputs", False))


def parameter_faults(proto: Proto) -> Iterator[Fault]:
    """A fault for each parameter whose value does not mean what it has to."""
    for name, text in parameters(proto).items():
        if name in _READERS:
            try:
                _READERS[name](text)
            except ValueError as error:
                message = f"parameter '{name}' is {text!r}, expected {error}"
                yield Fault(f'parameters["{name}"]', message)


def _read(proto: Proto) -> dict[str, Any]:
    given = parameters(proto)
    return {name: read(given[name]) for name, read in _READERS.items() if name in given}


def _flag(text: str) -> bool:
    if text.lower() not in _FLAGS:
        raise ValueError("true or false")
    return _FLAGS[text.lower()]


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


# What each known parameter's text means; ValueError says what was expected.
_READERS: Final[dict[str, Callable[[str], bool | int | None]]] = {
    "intra_op_thread_count": _threads,
    "inter_op_thread_count": _threads,
    "execution_mode": _parallel,
    "enable_mem_arena": _flag,
    "enable_mem_pattern": _flag,
    "reject_non_finite_inputs": _flag,
}
