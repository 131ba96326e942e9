"""An import from end to end: an ONNX file of any origin, through gates, into a repository.

Nobody says which data it was made for, so nothing is said of its accuracy: what is proven is that
the file is whole, valid and ONNX Runtime's, that it runs, and whether its rows may share batches.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from export import (
    classifiers,
    generated,
    graph_config,
    intake,
    model_config,
    onnx_gates,
    parity,
    provenance,
    rows,
)
from export.errors import FileRefused, GateRefused, RowsRefused
from export.job import MAX_BATCH_SIZE, ImportJob
from export.limited import limited
from export.onnx_model import Feed, OnnxModel, Outputs
from export.publish import Published, check_name, check_version, publish
from serving import passport as passports
from serving.config.complete import unbatched
from serving.passport import Passport, RowsProof, SourceProof
from serving.types import Signature, TensorSpec

STEPS = (
    "Copy the model and its weights",
    "Check versions, operators and shapes",
    "Run it, row by row and in batches",
    "Publish",
)


def import_model(job: ImportJob, on_step: Callable[[str], None] = lambda _: None) -> Published:
    """Publishes one version. `on_step` hears each of STEPS as it begins. Raises ExportError."""
    steps = iter(STEPS)
    name = job.name or job.source.stem
    check_name(name)
    check_version(job.repository / name, job.version)  # rather than when all has been tried
    with TemporaryDirectory(prefix="penstock-import-") as scratch:
        folder = Path(scratch)
        on_step(next(steps))
        graph, names = intake.take(job.source, folder)
        sha256 = passports.file_sha256(folder / intake.MODEL)
        mended = classifiers.mend(graph)
        if mended.changed:
            (folder / intake.MODEL).write_bytes(graph.SerializeToString())

        on_step(next(steps))
        model = onnx_gates.check(folder / intake.MODEL, graph, job.source)

        on_step(next(steps))
        tried = _try(job, model, _wanted_rows(job, name))

        on_step(next(steps))
        described = graph_config.describe(
            job.repository,
            name,
            model,
            rows.largest(tried),
            str(job.source),
            tried.reason,
            mended.classes,
        )
        seal = partial(_passport, job, name, sha256, onnx_gates.opset(graph), tried)
        place = publish(described, {each: folder / each for each in names}, seal, job.version)
    return Published(place, passports.read(place / passports.FILENAME))


def _wanted_rows(job: ImportJob, name: str) -> int:
    """The batch to try; 0 for a model that shall not batch."""
    if job.max_batch_size is not None:
        return job.max_batch_size
    stated = model_config.stated_rows(job.repository / name / model_config.FILENAME)
    return MAX_BATCH_SIZE if stated is None else stated


def _try(job: ImportJob, model: OnnxModel, wanted: int) -> RowsProof:
    """Runs the model; RowsRefused where batches were asked for that it does not make."""
    reason = _no_batches(model.signature, wanted)
    run = limited(model, job.source, job.run_timeout)
    specs = [spec for spec in model.signature.inputs if not spec.optional]
    try:
        if reason:
            proof = _try_whole(job, run, specs, reason)
        else:
            proof = _try_rows(job, run, specs, wanted)
    except FileRefused:
        raise
    except GateRefused as error:
        raise FileRefused(f"{job.source}: {error}") from error
    if job.max_batch_size and not proof.independent:
        raise RowsRefused(
            f"{job.source}: batches of {job.max_batch_size} were asked for, but {proof.reason}"
        )
    return proof


def _no_batches(signature: Signature, wanted: int) -> str:
    """Why there is nothing to try in batches; empty if there is."""
    fixed = unbatched(signature)
    if fixed:
        first = fixed[0]
        lacks = "whose first dimension is fixed" if first.dims else "without a dimension"
        return f"'{first.name}' is {list(first.dims)}, {lacks}"
    return "" if wanted else "max_batch_size is 0"


def _try_rows(
    job: ImportJob, model: Callable[[Feed], Outputs], specs: Sequence[TensorSpec], wanted: int
) -> RowsProof:
    """Runs a model whose inputs begin with the batch on rows alone and together."""
    one_row = [replace(spec, dims=spec.dims[1:]) for spec in specs]
    feeds, inputs = generated.feeds(job.sample, one_row, wanted, model)
    try:
        tried = rows.check(model, feeds, parity.batch_sizes(wanted), job.tolerance)
    except GateRefused as error:
        if job.sample:
            raise
        raise generated.unsuited(error) from error
    return tried.model_copy(update={"inputs": inputs})


def _try_whole(
    job: ImportJob, model: Callable[[Feed], Outputs], specs: Sequence[TensorSpec], reason: str
) -> RowsProof:
    """Runs a model that does not batch on inputs of its whole shapes."""

    def run(feed: Feed) -> Outputs:
        return rows.numbers(model({name: array[0, ...] for name, array in feed.items()}))

    feeds, inputs = generated.feeds(job.sample, specs, 1, run)
    run(feeds.alone(0))
    return rows.unbatched(reason, inputs, job.tolerance)


def _passport(
    job: ImportJob,
    name: str,
    sha256: str,
    opset: int | None,
    tried: RowsProof,
    version: int,
    files: dict[str, str],
) -> Passport:
    return Passport(
        model=name,
        version=version,
        files=files,
        source=SourceProof(kind="onnx", name=_text(job.source.name), sha256=sha256),
        task="unstated",
        rows=tried,
        opset=opset,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        commit=provenance.commit(),
        versions=provenance.versions(provenance.WITHOUT_TORCH),
    )


def _text(name: str) -> str:
    """A file's name, which may be any bytes, as a passport can hold it."""
    return os.fsencode(name).decode(errors="replace")
