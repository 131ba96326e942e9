"""An export of somebody's own torch module from end to end, through the gates that need no data."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final, TypeAlias

import numpy as np
import onnx
import torch
from torch import nn

from export import (
    exporter,
    generated,
    graph_config,
    model_config,
    onnx_gates,
    parity,
    provenance,
    recurrent,
    torch_module,
)
from export.errors import ConversionFailed, ModuleRefused
from export.generated import Feeds
from export.job import MAX_BATCH_SIZE, ModuleJob, Tolerance
from export.onnx_model import Feed, OnnxModel, Outputs
from export.publish import Published, check_name, check_version, publish
from serving import passport as passports
from serving.config.complete import unbatched
from serving.passport import ParityProof, Passport, SourceProof
from serving.types import TensorSpec

# By the output's name, places of dimensions.
Varying: TypeAlias = Mapping[str, Sequence[int]]
NONE: Final[Varying] = {}

PARITY_ROWS = 64  # of each kind that the gate looks at, more where a batch holds more

ROWS_TWICE = 8  # of one alone, chance may leave the answer as it was

STEPS = (
    "Build the module and load its weights",
    "Convert to ONNX",
    "Compare torch and ONNX Runtime",
    "Publish",
)


def export_module(job: ModuleJob, on_step: Callable[[str], None] = lambda _: None) -> Published:
    """Publishes one version. `on_step` hears each of STEPS as it begins. Raises ExportError."""
    steps = iter(STEPS)
    name = job.name or job.reference.partition(":")[0].rpartition(".")[2]
    check_name(name)
    check_version(job.repository / name, job.version)  # rather than when all has been tried
    stated = model_config.stated_rows(job.repository / name / model_config.FILENAME)
    count = job.max_batch_size or stated or MAX_BATCH_SIZE
    _check_names(job, job.outputs)
    on_step(next(steps))
    module = torch_module.build(job.reference)
    if job.weights:
        torch_module.load_weights(module, job.weights)
    exporter.check_size(module, job.reference)
    reference = torch_module.runner(module, job.outputs)
    feeds, _ = generated.feeds(job.sample, job.inputs, max(PARITY_ROWS, count), reference)

    outputs = _outputs(reference, feeds, job.tolerance)
    _check_names(job, outputs)
    resized = generated.resized(feeds, job.inputs, reference)
    varying = _varying(reference, feeds, resized) if resized else NONE

    on_step(next(steps))
    graph = to_onnx(job, module, feeds, outputs, varying)

    on_step(next(steps))
    with TemporaryDirectory(prefix="penstock-export-") as scratch:
        path = Path(scratch, model_config.MODEL)
        _write(path, graph)
        candidate = _open(path, job)
        compare = partial(parity.check, reference, candidate, tolerance=job.tolerance)
        compared = compare((feeds, generated.extreme(feeds)), parity.batch_sizes(count))
        if resized:
            more = compare((resized,), parity.batch_sizes(generated.RESIZED_ROWS))
            compared = compared.model_copy(update={"batches": compared.batches + more.batches})
        on_step(next(steps))
        described = graph_config.describe(job.repository, name, candidate, count, job.reference)
        seal = partial(_passport, job, module, name, compared)
        place = publish(described, {model_config.MODEL: graph}, seal, job.version)
    return Published(place, passports.read(place / passports.FILENAME))


def _outputs(
    reference: Callable[[Feed], Outputs], feeds: Feeds, tolerance: Tolerance
) -> tuple[str, ...]:
    """Their names. ModuleRefused where the same row has another answer each time."""
    for row in range(ROWS_TWICE):
        first, again = reference(feeds.alone(row)), reference(feeds.alone(row))
        for name, array in first.items():
            if not np.allclose(
                array, again[name], tolerance.relative, tolerance.absolute, equal_nan=True
            ):
                raise ModuleRefused(
                    f"the module gives another {name} each time for the same input, so that "
                    "nothing can be held against it: by dropout or noise that eval() does not "
                    "turn off, or a state that it keeps"
                )
    return tuple(first)


def _varying(reference: Callable[[Feed], Outputs], feeds: Feeds, resized: Feeds) -> Varying:
    """Which dimensions of which outputs are of another size where those of inputs are."""
    first, other = reference(feeds.alone(0)), reference(resized.alone(0))
    return {
        name: [
            place
            for place, sizes in enumerate(zip(array.shape, other[name].shape, strict=False))
            if sizes[0] != sizes[1]
        ]
        for name, array in first.items()
    }


def _write(path: Path, graph: bytes) -> None:
    try:
        path.write_bytes(graph)
    except OSError as error:
        raise ConversionFailed(
            f"{path.parent}: the graph cannot be written ({error.strerror}): choose another folder "
            "for such by TMPDIR"
        ) from error


def _check_names(job: ModuleJob, outputs: Sequence[str]) -> None:
    """ModuleRefused where inputs and outputs cannot be told apart by their names."""
    names = [*(spec.name for spec in job.inputs), *outputs]
    if twice := [name for name in names if not name or names.count(name) > 1]:
        raise ModuleRefused(
            f"the inputs and outputs are {', '.join(map(repr, names))}, and {twice[0]!r} names no "
            "one of them: give each a name of its own by --input and --output"
        )


def to_onnx(
    job: ModuleJob,
    module: nn.Module,
    feeds: Feeds,
    outputs: Sequence[str],
    varying: Varying = NONE,
) -> bytes:
    """The bytes of `model.onnx`, of any batch size; `varying` are dimensions of outputs that are
    not constant. Raises ConversionFailed.

    torch's exporter has no GRU and no RNN: where it fails, operators take their place."""
    examples = tuple(torch.tensor(array[:2]) for array in feeds.arrays.values())
    shapes = (tuple(_dynamic(spec) for spec in job.inputs),)

    def convert(each: nn.Module) -> bytes:
        model = exporter.convert(
            torch_module.Flat(each),
            examples,
            [spec.name for spec in job.inputs],
            outputs,
            shapes,
            job.opset,
            job.reference,
        )
        _free(model.graph, varying)
        return exporter.serialised(model, job.reference)

    try:
        return convert(module)
    except ConversionFailed:
        if not any(isinstance(layer, nn.RNNBase) for layer in module.modules()):
            raise
        with suppress(ConversionFailed), recurrent.replaced(module) as other:
            return convert(other)
        raise


def _free(graph: onnx.GraphProto, varying: Varying) -> None:
    """Of outputs of recurrent layers the exporter states the example's length as if there were no
    other, and would have every server believe it."""
    for output in graph.output:
        for place in varying.get(output.name, ()):
            dim = output.type.tensor_type.shape.dim[place]
            if dim.HasField("dim_value"):
                dim.Clear()
                del graph.value_info[:]  # which say the same of what comes before


def _dynamic(spec: TensorSpec) -> dict[int, Any]:
    variable = [place for place, size in enumerate(spec.dims, 1) if size == -1]
    return {0: torch.export.Dim("batch")} | dict.fromkeys(variable, torch.export.Dim.DYNAMIC)


def _open(path: Path, job: ModuleJob) -> OnnxModel:
    """ConversionFailed where the graph does not take what the module does, in any number of
    rows."""
    candidate = onnx_gates.check(path, onnx.load(path), Path(job.reference))
    wanted = [spec.name for spec in job.inputs]
    if candidate.inputs != wanted:
        raise ConversionFailed(f"the exported graph takes {candidate.inputs}, the module {wanted}")
    if fixed := unbatched(candidate.signature):
        raise ConversionFailed(
            f"{job.reference}: '{fixed[0].name}' came out as {list(fixed[0].dims)}, and not with a "
            "row for each of a batch of any size: every output must begin with the batch dimension"
        )
    return candidate


def _passport(
    job: ModuleJob,
    module: nn.Module,
    name: str,
    compared: ParityProof,
    version: int,
    files: dict[str, str],
) -> Passport:
    weights = passports.file_sha256(job.weights) if job.weights else None
    return Passport(
        model=name,
        version=version,
        files=files,
        source=SourceProof(kind="module", name=job.reference, sha256=weights),
        weights_sha256=weights,
        parameters=sum(weights.numel() for weights in module.parameters()),
        task="unstated",
        parity=compared,
        opset=job.opset,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        commit=provenance.commit(),
        versions=provenance.versions(),
    )
