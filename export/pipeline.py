"""An export from end to end: every gate first, and the repository touched only behind the last."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from export import (
    accuracy,
    engine_target,
    engines,
    language_gates,
    likeness,
    model_config,
    parity,
    parts,
    proof,
    samples,
    translation_gates,
    variants,
)
from export.candidates import Baseline
from export.engines import Made
from export.job import MAX_BATCH_SIZE, Job, Tolerance
from export.onnx_model import OnnxModel
from export.publish import Dropped, Model, Published, check, check_name, publish
from export.runners import onnx_runner, torch_runner
from export.to_onnx import main_input, to_onnx
from export.variants import Variant
from serving import passport as passports
from serving.passport import Measured, ParityProof
from training import catalog
from training import checkpoint as checkpoints
from training.checkpoint import Checkpoint
from training.data.dataset import Dataset

# Rows of each kind of sample that the parity gate looks at, more where a batch holds more.
PARITY_ROWS = 64

STEPS = (
    "Read the checkpoint and its data",
    "Convert to ONNX",
    "Compare torch and ONNX Runtime",
    "Measure the accuracy",
    "Publish",
)
VARIANTS_STEP = "Make variants, and measure speed and right answers"
ENGINES_STEP = "Build TensorRT engines, and compare them with ONNX Runtime"


@dataclass(frozen=True, slots=True)
class _Version:
    """What is to be published of `model`; `gates` are its further proofs, `more` further files."""

    model: Model
    graph: bytes
    measured: Measured
    gates: dict[str, Any]
    more: Mapping[str, bytes] = field(default_factory=dict)


def steps(job: Job) -> tuple[str, ...]:
    """What `export` tells of, in order."""
    more = [VARIANTS_STEP] if job.variants else []
    more += [ENGINES_STEP] if job.tensorrt else []
    return (*STEPS[:-1], *more, STEPS[-1])


def export(
    job: Job,
    on_step: Callable[[str], None] = lambda _: None,
    on_progress: Callable[[str], None] = lambda _: None,
) -> Published:
    """Publishes one version. `on_step` hears each of `steps` as it begins, `on_progress` how far
    those are that take minutes. Raises ExportError, or TrainingError where the checkpoint or the
    data cannot be read."""
    upcoming = iter(steps(job))
    on_step(next(upcoming))
    checkpoint = checkpoints.load(job.checkpoint)
    main_input(checkpoint)
    variants.check(job, checkpoint)
    engines.check(job, checkpoint)
    if not job.part:
        check(_model(job, checkpoint), job.version)  # before the data is read
    dataset = catalog.load_dataset(checkpoint.dataset_name, job.data_dir)
    accuracy.check_data(dataset, checkpoint)
    if job.part:
        checkpoint, dataset = parts.take(job.part, checkpoint, dataset)
    model = _model(job, checkpoint)
    check(model, job.version)

    on_step(next(upcoming))
    graph = to_onnx(checkpoint, job.opset)

    on_step(next(upcoming))
    compared = _parity(graph, dataset, checkpoint, model.config.max_batch_size, job.tolerance)

    on_step(next(upcoming))
    measured = _measure(graph, dataset, checkpoint)

    made: list[Variant | Dropped] = []
    base = Baseline(checkpoint, dataset, graph, measured, model.config.max_batch_size)
    if job.variants:
        on_step(next(upcoming))
        made += variants.make(job, base)
    built: list[Made] = []
    if job.tensorrt:
        on_step(next(upcoming))
        target = engine_target.find()
        built += engines.make(job, base, model.config, target, on_progress=on_progress)

    on_step(next(upcoming))
    gates: dict[str, Any] = {"parity": compared}
    if checkpoint.task == "generation":
        gates["likeness"] = likeness.measure(onnx_runner(graph), dataset, job.repository)
    own = _Version(model, graph, measured, gates)
    beside = [
        each if isinstance(each, Dropped) else _variant(own, checkpoint, each) for each in made
    ]
    beside += [_engine(own, each) for each in built]
    for each in beside:
        if isinstance(each, _Version):
            check(each.model, None)  # before the first is published
    first = _publish(own, job, checkpoint, job.version)
    outcomes = [
        each if isinstance(each, Dropped) else _publish(each, job, checkpoint, None)
        for each in beside
    ]
    return replace(first, variants=tuple(outcomes))


def _publish(made: _Version, job: Job, checkpoint: Checkpoint, version: int | None) -> Published:
    files: dict[str, bytes | Path] = {model_config.MODEL: made.graph, **made.more}
    if checkpoint.tokenizer:
        files[checkpoints.TOKENIZER] = checkpoint.tokenizer.encode()
    name = made.model.config.name
    seal = partial(proof.of_checkpoint, checkpoint, name, job.opset, made.measured, made.gates)
    folder = publish(made.model, files, seal, version)
    return Published(folder, passports.read(folder / passports.FILENAME))


def _variant(fp32: _Version, checkpoint: Checkpoint, made: Variant) -> _Version:
    """As a model of its own, so that clients and operators choose it by name."""
    name = f"{fp32.model.config.name}-{made.precision}"
    config = model_config.build(
        name, checkpoint.signature, made.max_batch_size, checkpoint.task, checkpoint.columns
    )
    gates = {"rows": made.rows, "variant": made.proof}
    return _Version(replace(fp32.model, config=config), made.graph, made.measured, gates)


def _engine(fp32: _Version, made: Made) -> _Version:
    """As a model of its own, like a variant."""
    name = f"{fp32.model.config.name}-{made.suffix}"
    model = replace(fp32.model, config=engines.configured(fp32.model.config, name))
    plan = {engines.PLAN: made.plan}
    return _Version(model, made.wrapper, made.measured, {"engine": made.proof}, plan)


def _model(job: Job, checkpoint: Checkpoint) -> Model:
    name = job.name or checkpoint.recipe
    check_name(name)
    rows = job.max_batch_size
    if rows is None:
        rows = model_config.stated_rows(job.repository / name / model_config.FILENAME)
        rows = rows or MAX_BATCH_SIZE
    config = model_config.build(
        name, checkpoint.signature, rows, checkpoint.task, checkpoint.columns
    )
    return Model(job.repository, config, checkpoint.labels)


def _measure(graph: bytes, dataset: Dataset, checkpoint: Checkpoint) -> Measured:
    match checkpoint.task:
        case "language":
            runner = language_gates.cached_runner(graph)
            return language_gates.check_nats(runner, dataset, checkpoint)
        case "translation":
            return translation_gates.check_bleu(OnnxModel(graph), dataset, checkpoint)
    return accuracy.check(onnx_runner(graph), dataset, checkpoint)


def _parity(
    graph: bytes,
    dataset: Dataset,
    checkpoint: Checkpoint,
    max_batch_size: int,
    tolerance: Tolerance,
) -> ParityProof:
    count = max(PARITY_ROWS, max_batch_size)
    sizes = parity.batch_sizes(max_batch_size)
    if checkpoint.task == "translation":
        texts = translation_gates.samples(dataset, checkpoint, count)
        reference = translation_gates.reference(checkpoint)
        return parity.check(reference, OnnxModel(graph), texts, sizes, tolerance)
    if checkpoint.task == "language":
        candidate = language_gates.cached_runner(graph)
        compared = language_gates.samples(dataset, checkpoint, count)
    else:
        candidate = onnx_runner(graph)
        compared = (samples.real(dataset.test_x, count), samples.extreme(checkpoint, count))
    return parity.check(torch_runner(checkpoint), candidate, compared, sizes, tolerance)
