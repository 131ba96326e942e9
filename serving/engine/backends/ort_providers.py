"""What of ONNX Runtime executes a session, in order, and whether it does."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias

from serving.config import Placement, RuntimeOptions
from serving.engine.backends import gpus
from serving.engine.backends.runtime import CPU, CUDA, OPENVINO, TENSORRT
from serving.errors import LoadFailed

# A provider's name, and its options.
Provider: TypeAlias = tuple[str, Mapping[str, str]]

logger = logging.getLogger("penstock.load")

# The entry of a session's configuration by which it remembers who executes what.
RECORDS: Final = "session.record_ep_graph_assignment_info"
_NAMED: Final = 4


def providers(
    runtime: Any, wanted: RuntimeOptions, placement: Placement, path: Path
) -> list[Provider]:
    """What executes the graph, the first wherever it can."""
    if placement.gpu is not None:
        wanted_here = on_gpu(placement)
        for name, _ in wanted_here:
            if name not in runtime.get_available_providers():
                raise LoadFailed(_refusal(runtime, name, placement, path))
        gpus.preload(runtime, wanted_here[0][0])
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


def refuse_fallback(
    runtime: Any, session: Any, providers: Sequence[Provider], placement: Placement, path: Path
) -> None:
    """LoadFailed where a session has not got a provider that it was to have; else says its order.

    ONNX Runtime warns on standard error of a provider that does not load, and goes on without it.
    """
    wanted = [name for name, _ in providers]
    given = session.get_providers()
    for name in wanted:
        if name not in given:
            raise LoadFailed(_refusal(runtime, name, placement, path))
    told = operators(session)
    order = ", then ".join(f"{name}{_counted(told.get(name))}" for name in wanted)
    logger.info("%s: executes on %s: %s", path, placement, order)
    if told and not told.keys() - {CPU}:
        logger.warning(
            "%s: is on %s, and all of its operators execute on the CPU, as none of them is for "
            "GPUs: write KIND_CPU, which spares the copies",
            path,
            placement,
        )


def operators(session: Any) -> dict[str, Counter[str]]:
    """The types of the operators that each provider executes, of a session that RECORDS them.

    Nothing where the runtime is of a release that does not tell.
    """
    tell = getattr(session, "get_provider_graph_assignment_info", list)
    found: dict[str, Counter[str]] = {}
    for part in tell():
        types = (node.op_type for node in part.get_nodes())
        found.setdefault(part.ep_name, Counter()).update(types)
    return found


def _counted(types: Counter[str] | None) -> str:
    """How many operators, and the most frequent ones."""
    if not types:
        return ""
    first = ", ".join(name for name, _ in types.most_common(_NAMED))
    more = ", …" if len(types) > _NAMED else ""
    return f" ({types.total()} operators: {first}{more})"


def unloadable(runtime: Any, placement: Placement) -> str:
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
