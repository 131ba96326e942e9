"""TensorRT engines beside the fp32 model: built, held against ONNX Runtime, published.

A version holds the engine (model.plan) and a graph of one node (model.onnx) by which ONNX Runtime's
TensorRT provider finds it: nothing is built when it is loaded. What was built before for the same
graph, GPU, driver and versions is taken from a cache; so is what TensorRT has learnt of the GPU.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

import onnx
from onnx import helper

from export import accuracy, engine_key, engine_target, parity, quantise, samples
from export.candidates import Baseline, calibration_batches
from export.engine_build import build
from export.engine_key import Profile, Target
from export.engine_run import Engine, Memory
from export.errors import AccuracyRefused, EngineRefused
from export.job import HALF_TOLERANCE, Job
from export.onnx_model import Outputs
from export.runners import Runner, feed, onnx_runner
from export.variants import loss_of
from serving.config import Proto
from serving.passport import EngineProof, Measured, ParityProof
from serving.types import Array
from training.checkpoint import Checkpoint
from training.tokens import longest

PLAN: Final = "model.plan"
CACHE: Final = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache", "penstock", "tensorrt")

_NODE: Final = "EPContext"  # of ONNX Runtime's own domain
_DOMAIN: Final = "com.microsoft"
_PROVIDER: Final = "TensorrtExecutionProvider"  # which takes no engine of another one


@dataclass(frozen=True, slots=True)
class Made:
    """An engine that passed its gates; `wrapper` is the graph by which ONNX Runtime finds it."""

    precision: str
    plan: bytes
    wrapper: bytes
    measured: Measured
    proof: EngineProof

    @property
    def suffix(self) -> str:
        """What its model's name has behind that of the fp32 model."""
        return "tensorrt" if self.precision == "fp32" else f"tensorrt-{self.precision}"


def check(job: Job, checkpoint: Checkpoint) -> None:
    """EngineRefused, before any work, where an engine that is asked for cannot be had."""
    if not job.tensorrt:
        return
    if checkpoint.task == "language":
        raise EngineRefused("language models, which take one step of a text, have no engines")
    if checkpoint.task == "translation":
        raise EngineRefused("translators, whose graph holds a search, have no engines")
    if "int8" in job.tensorrt and checkpoint.task == "text":
        raise EngineRefused("int8 engines need constant ranges, which models of texts have not")
    engine_target.find()


def make(
    job: Job,
    base: Baseline,
    config: Proto,
    target: Target,
    cache: Path | None = None,
    on_progress: Callable[[str], None] = lambda _: None,
) -> Iterator[Made]:
    """An engine for each precision asked for; GateRefused where one does not pass its gates.

    `cache` is the folder of what was built before, None the user's.
    """
    folder = (cache or CACHE).expanduser()
    length = longest(base.checkpoint.tokenizer) if base.checkpoint.tokenizer else 0
    shapes = engine_key.profiles(config, length)
    for precision in job.tensorrt:
        graph = base.graph
        if precision == "int8":
            graph = quantise.static(graph, calibration_batches(base), symmetric=True)
        key = engine_key.key(target, graph, precision, shapes)
        plan = _cached(graph, shapes, precision, target, key, folder, on_progress)
        runner = _runner(Engine(plan, Memory(engine_target.cudart())), base.max_batch_size)
        compared = _compared(runner, base, job, precision)
        yield Made(
            precision,
            plan,
            wrapper(base.graph, target),
            _measured(runner, base, job, precision),
            _proof(precision, key, target, base, shapes, compared),
        )


def wrapper(graph: bytes, target: Target) -> bytes:
    """A graph of the same inputs and outputs whose one node is the engine that lies beside it."""
    model = onnx.load_from_string(graph)
    inputs, outputs = model.graph.input, model.graph.output
    node = helper.make_node(
        _NODE,
        [given.name for given in inputs],
        [given.name for given in outputs],
        domain=_DOMAIN,
        embed_mode=0,  # the name of a file, and not the engine itself
        ep_cache_context=PLAN,
        hardware_architecture=target.capability.replace(".", ""),
        source=_PROVIDER,
    )
    made = helper.make_model(
        helper.make_graph([node], "engine", inputs, outputs),
        ir_version=model.ir_version,
        opset_imports=[*model.opset_import, helper.make_opsetid(_DOMAIN, 1)],
    )
    return bytes(made.SerializeToString(deterministic=True))


def configured(config: Proto, name: str) -> Proto:
    """The configuration of an engine of the model that `config` is for."""
    made = type(config)()
    made.CopyFrom(config)
    made.name = name
    made.instance_group.add(kind="KIND_GPU")
    made.optimization.execution_accelerators.gpu_execution_accelerator.add(name="tensorrt")
    return made


def _cached(
    graph: bytes,
    shapes: dict[str, Profile],
    precision: str,
    target: Target,
    key: str,
    cache: Path,
    on_progress: Callable[[str], None],
) -> bytes:
    """The engine of that key, built unless it is there."""
    plan, timing = cache / f"{key}.plan", cache / f"{target.key}.timing"
    if plan.exists():
        return plan.read_bytes()
    learnt = timing.read_bytes() if timing.exists() else b""
    built = build(graph, shapes, precision, learnt, on_progress)
    try:
        cache.mkdir(parents=True, exist_ok=True)
        _keep(plan, built.plan)
        _keep(timing, built.timing)
    except OSError as error:
        # What has taken minutes is not lost for want of a place for the next export to find it.
        on_progress(f"{cache} cannot keep the engine: {error.strerror}")
    return built.plan


def _keep(path: Path, data: bytes) -> None:
    """Under a name of its own first: another export may be at the same."""
    draft = path.with_name(f".{path.name}-{uuid4().hex}")
    try:
        draft.write_bytes(data)
        draft.rename(path)
    finally:
        draft.unlink(missing_ok=True)


def _runner(engine: Engine, most: int) -> Runner:
    """In batches of at most so many rows: an engine takes no more than it was built for."""

    def run(raw: Array) -> Outputs:
        parts = [raw[start : start + most] for start in range(0, len(raw), most)]
        return parity.stack([engine(feed(engine.inputs, part)) for part in parts])

    return run


def _compared(runner: Runner, base: Baseline, job: Job, precision: str) -> ParityProof | None:
    """What the engine's answers are from ONNX Runtime's; nothing of int8, which rounds them all."""
    if precision == "int8":
        return None
    tolerance = job.tolerance if precision == "fp32" else HALF_TOLERANCE
    real = samples.real(base.dataset.test_x, base.max_batch_size)
    sizes = parity.batch_sizes(base.max_batch_size)
    names = parity.Names("TensorRT", "ONNX Runtime")
    reference = onnx_runner(base.graph)
    return parity.check(reference, runner, [real], sizes, tolerance, names)


def _measured(runner: Runner, base: Baseline, job: Job, precision: str) -> Measured:
    """AccuracyRefused where it loses more than a variant may."""
    value = accuracy.measure(runner, base.dataset, base.checkpoint)
    loss = loss_of(value, base.measured)
    if not loss <= job.max_loss:
        raise AccuracyRefused(
            f"the {precision} engine has {value:.6g} where fp32 has {base.measured.value:.6g} over "
            f"{base.measured.n} test samples: a loss of {loss:.2f}, and at most {job.max_loss:g} "
            "is allowed"
        )
    return base.measured.model_copy(update={"value": value})


def _proof(
    precision: str,
    key: str,
    target: Target,
    base: Baseline,
    shapes: dict[str, Profile],
    compared: ParityProof | None,
) -> EngineProof:
    facts: dict[str, Any] = {"precision": precision, "key": key, **asdict(target)}
    facts["profiles"] = {
        name: (shape.smallest, shape.likely, shape.largest) for name, shape in shapes.items()
    }
    return EngineProof(**facts, onnx_sha256=engine_key.sha256(base.graph), parity=compared)
