"""An export from end to end: every gate first, and the repository touched only behind the last."""

from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial

from export import (
    accuracy,
    language_gates,
    model_config,
    parity,
    parts,
    provenance,
    samples,
)
from export.job import MAX_BATCH_SIZE, Job, Tolerance
from export.publish import Model, Published, check, check_name, publish
from export.runners import Runner, onnx_runner, torch_runner
from export.to_onnx import main_input, to_onnx
from serving import passport as passports
from serving.passport import AccuracyProof, DatasetProof, ErrorProof, ParityProof, Passport
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


def export(job: Job, on_step: Callable[[str], None] = lambda _: None) -> Published:
    """Publishes one version. `on_step` hears each of STEPS as it begins. Raises ExportError,
    or TrainingError where the checkpoint or the data cannot be read."""
    steps = iter(STEPS)
    on_step(next(steps))
    checkpoint = checkpoints.load(job.checkpoint)
    main_input(checkpoint)
    if not job.part:
        check(_model(job, checkpoint), job.version)  # before the data is read
    dataset = catalog.load_dataset(checkpoint.dataset_name, job.data_dir)
    accuracy.check_data(dataset, checkpoint)
    if job.part:
        checkpoint, dataset = parts.take(job.part, checkpoint, dataset)
    model = _model(job, checkpoint)
    check(model, job.version)

    on_step(next(steps))
    graph = to_onnx(checkpoint, job.opset)
    candidate = _runner(graph, checkpoint)

    on_step(next(steps))
    compared = _parity(checkpoint, candidate, dataset, model.config.max_batch_size, job.tolerance)

    on_step(next(steps))
    measured = _measure(candidate, dataset, checkpoint)

    on_step(next(steps))
    seal = partial(_passport, checkpoint, model.config.name, job.opset, compared, measured)
    files = {model_config.MODEL: graph}
    if checkpoint.tokenizer:
        files[checkpoints.TOKENIZER] = checkpoint.tokenizer.encode()
    folder = publish(model, files, seal, job.version)
    return Published(folder, passports.read(folder / passports.FILENAME))


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


def _runner(graph: bytes, checkpoint: Checkpoint) -> Runner:
    if checkpoint.task == "language":
        return language_gates.cached_runner(graph)
    return onnx_runner(graph)


def _measure(
    candidate: Runner, dataset: Dataset, checkpoint: Checkpoint
) -> AccuracyProof | ErrorProof:
    if checkpoint.task == "language":
        return language_gates.check_nats(candidate, dataset, checkpoint)
    return accuracy.check(candidate, dataset, checkpoint)


def _parity(
    checkpoint: Checkpoint,
    candidate: Runner,
    dataset: Dataset,
    max_batch_size: int,
    tolerance: Tolerance,
) -> ParityProof:
    count = max(PARITY_ROWS, max_batch_size)
    if checkpoint.task == "language":
        compared = language_gates.samples(dataset, checkpoint, count)
    else:
        compared = (samples.real(dataset.test_x, count), samples.extreme(checkpoint, count))
    sizes = parity.batch_sizes(max_batch_size)
    return parity.check(torch_runner(checkpoint), candidate, compared, sizes, tolerance)


def _passport(
    checkpoint: Checkpoint,
    name: str,
    opset: int,
    compared: ParityProof,
    measured: AccuracyProof | ErrorProof,
    version: int,
    files: dict[str, str],
) -> Passport:
    return Passport(
        model=name,
        version=version,
        files=files,
        weights_sha256=checkpoint.weights_sha256,
        architecture=checkpoint.architecture,
        parameters=sum(weights.numel() for weights in checkpoint.build().parameters()),
        recipe=checkpoint.recipe,
        seed=checkpoint.seed,
        dataset=DatasetProof(name=checkpoint.dataset_name, sha256=checkpoint.dataset_sha256),
        task=checkpoint.task,
        accuracy=measured if isinstance(measured, AccuracyProof) else None,
        error=measured if isinstance(measured, ErrorProof) else None,
        parity=compared,
        opset=opset,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        commit=provenance.commit(),
        versions=provenance.versions(),
    )
