"""An export from end to end: every gate first, and the repository touched only behind the last."""

from collections.abc import Callable
from dataclasses import replace
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
    first = _publish(model, job, checkpoint, graph, measured, gates, job.version)
    outcomes = [
        each if isinstance(each, Dropped) else _publish_variant(job, checkpoint, each)
        for each in made
    ]
    outcomes += [_publish_engine(model, job, checkpoint, each) for each in built]
    return replace(first, variants=tuple(outcomes))


def _publish(
    model: Model,
    job: Job,
    checkpoint: Checkpoint,
    graph: bytes,
    measured: Measured,
    gates: dict[str, Any],
    version: int | None,
    more: dict[str, bytes] | None = None,
) -> Published:
    files: dict[str, bytes | Path] = {model_config.MODEL: graph, **(more or {})}
    if checkpoint.tokenizer:
        files[checkpoints.TOKENIZER] = checkpoint.tokenizer.encode()
    name = model.config.name
    seal = partial(proof.of_checkpoint, checkpoint, name, job.opset, measured, gates)
    folder = publish(model, files, seal, version)
    return Published(folder, passports.read(folder / passports.FILENAME))


def _publish_variant(job: Job, checkpoint: Checkpoint, variant: Variant) -> Published:
    """As a model of its own, so that clients and operators choose it by name."""
    name = f"{job.name or checkpoint.recipe}-{variant.precision}"
    config = model_config.build(
        name, checkpoint.signature, variant.max_batch_size, checkpoint.task, checkpoint.columns
    )
    model = Model(job.repository, config, checkpoint.labels)
    gates = {"rows": variant.rows, "variant": variant.proof}
    return _publish(model, job, checkpoint, variant.graph, variant.measured, gates, None)


def _publish_engine(model: Model, job: Job, checkpoint: Checkpoint, made: Made) -> Published:
    """As a model of its own, like a variant."""
    name = f"{model.config.name}-{made.suffix}"
    own = Model(job.repository, engines.configured(model.config, name), checkpoint.labels)
    files, gates = {engines.PLAN: made.plan}, {"engine": made.proof}
    return _publish(own, job, checkpoint, made.wrapper, made.measured, gates, None, files)


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
