"""`penstock export`: a checkpoint, or a torch module, that passes the gates becomes a version."""

from pathlib import Path
from typing import Any, Final

import click
from click.core import ParameterSource

from export import options
from export.errors import ExportError
from export.input_option import Input
from export.job import (
    AUTO,
    ENGINES,
    MAX_BATCH_SIZE,
    MAX_LOSS,
    MOST_ROWS,
    OPSET,
    OPSETS,
    PARTS,
    PRECISIONS,
    Job,
    ModuleJob,
    Tolerance,
)
from training import options as training_options
from training.errors import TrainingError

# What only one of the two kinds of sources has.
OF_CHECKPOINTS: Final = {
    "part": "--part",
    "data_dir": "--data-dir",
    "variants": "--variants",
    "max_loss": "--max-loss",
    "tensorrt": "--tensorrt",
}
OF_MODULES: Final = {
    "inputs": "--input",
    "outputs": "--output",
    "weights": "--checkpoint",
    "sample": "--sample",
}


def _variants(context: click.Context, option: click.Parameter, value: str) -> tuple[str, ...]:
    """The precisions besides fp32, which is always made."""
    given = tuple(each.strip() for each in value.split(","))
    if unknown := [each for each in given if each not in PRECISIONS and given != (AUTO,)]:
        raise click.BadParameter(
            f"{unknown[0]!r} is none; expected auto alone, or some of {', '.join(PRECISIONS)}"
        )
    return tuple(each for each in given if each != "fp32")


def _engines(context: click.Context, option: click.Parameter, value: str) -> tuple[str, ...]:
    given = tuple(each.strip() for each in value.split(",")) if value else ()
    if unknown := [each for each in given if each not in ENGINES]:
        raise click.BadParameter(f"{unknown[0]!r} is none; expected some of {', '.join(ENGINES)}")
    return tuple(dict.fromkeys(given))


@click.command()
@click.argument("source")
@options.place("the checkpoint's recipe, or the module's")
@click.option(
    "--max-batch-size",
    type=click.IntRange(1, MOST_ROWS),
    show_default=f"that of the model's config.pbtxt, else {MAX_BATCH_SIZE}",
    help="Most rows in one execution.",
)
@click.option(
    "--opset",
    type=click.IntRange(*OPSETS),
    default=OPSET,
    show_default=True,
    help="Version of ONNX's operators.",
)
@options.tolerance("ONNX Runtime and torch")
@click.option(
    "--part",
    type=click.Choice(PARTS),
    show_default="the whole network",
    help="Of a checkpoint: the part to export as a model of its own; give it a --name.",
)
@training_options.data_dir("Of a checkpoint: the folder with the data that it was tested on.")
@click.option(
    "--variants",
    callback=_variants,
    default="fp32",
    show_default=True,
    metavar="auto|PRECISION,...",
    help="Of a checkpoint: precisions to publish, of fp32, int8 and fp16; each of the others is a "
    "model of its own, NAME-int8. auto: those that are right and faster on this machine, fp16 on "
    "its GPU if it has one.",
)
@click.option(
    "--max-loss",
    type=training_options.Number(min=0),
    default=MAX_LOSS,
    show_default=True,
    help="Of a checkpoint: points of accuracy that a variant may lose against fp32, or per cent "
    "that its error may grow.",
)
@click.option(
    "--tensorrt",
    callback=_engines,
    is_flag=False,
    flag_value="fp32",
    default="",
    show_default="none",
    metavar="[PRECISION,...]",
    help="Of a checkpoint: TensorRT engines to publish, in fp32, fp16 or int8, each a model of its "
    "own, NAME-tensorrt-fp16. They are for the GPU and the versions of this machine.",
)
@click.option(
    "--checkpoint",
    "weights",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    show_default="none: the callable brings its own",
    help="Of a module: the file of its weights, .safetensors or by torch.save.",
)
@click.option(
    "--input",
    "inputs",
    type=Input(),
    multiple=True,
    show_default="none: at least one is needed",
    help="Of a module: an argument without its batch dimension, such as image:FP32:3,32,32; -1 is "
    "any size. Once for each.",
)
@click.option(
    "--output",
    "outputs",
    multiple=True,
    show_default="the keys of the dictionary that it gives, or output",
    help="Of a module: the name of an output. Once for each.",
)
@options.sample("Of a module: an")
def export(
    source: str, absolute_tolerance: float, relative_tolerance: float, **others: Any
) -> None:
    """Export SOURCE into a model repository: the folder of a checkpoint by `penstock train`, or
    package.module:callable, which returns a torch module of your own.

    A checkpoint's model takes raw input: preprocessing is part of the graph. It is published only
    if ONNX Runtime gives what torch gives, at every batch size, and is right on as many test
    samples as the checkpoint states. Of a module there is no data; the rest is the same. The
    passport says what was measured.
    """
    tolerance = Tolerance(absolute_tolerance, relative_tolerance)
    if ":" in source and not Path(source).exists():
        _refuse(others, OF_CHECKPOINTS, "a checkpoint's folder, and SOURCE is a module")
        _export_module(source, tolerance, others)
    else:
        if Path(source).is_file():
            raise click.UsageError(
                f"{source} is a file; SOURCE is a checkpoint's folder, or package.module:callable, "
                "which returns a torch module"
            )
        path = click.Path(exists=True, file_okay=False, path_type=Path)
        checkpoint: Path = path.convert(source, _argument(), click.get_current_context())
        _refuse(others, OF_MODULES, "package.module:callable, and SOURCE is a folder")
        _export_checkpoint(checkpoint, tolerance, others)


def _argument() -> click.Parameter:
    return click.get_current_context().command.params[0]


def _refuse(given: dict[str, Any], foreign: dict[str, str], why: str) -> None:
    """Takes the options of the other kind of source out; UsageError if one was used."""
    context = click.get_current_context()
    for name, option in foreign.items():
        value = given.pop(name)
        if value and context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            raise click.UsageError(f"{option} is an option of {why}")


def _export_checkpoint(checkpoint: Path, tolerance: Tolerance, others: dict[str, Any]) -> None:
    job = Job(checkpoint, **others, tolerance=tolerance)
    # Only now: torch takes seconds to load, and `--help` shall not wait for it.
    from export import pipeline
    from export.report import Report

    try:
        with Report(pipeline.steps(job)) as report:
            published = pipeline.export(job, report.step, report.progress)
    except (ExportError, TrainingError) as error:
        raise click.ClickException(str(error)) from error
    report.summary(published)


def _export_module(reference: str, tolerance: Tolerance, others: dict[str, Any]) -> None:
    if not others["inputs"]:
        raise click.UsageError("what the module takes is to be said: --input NAME:DATATYPE:DIMS")
    job = ModuleJob(reference, **others, tolerance=tolerance)
    from export import module_pipeline
    from export.report import Report

    try:
        with Report(module_pipeline.STEPS) as report:
            published = module_pipeline.export_module(job, report.step)
    except ExportError as error:
        raise click.ClickException(str(error)) from error
    report.summary(published)
