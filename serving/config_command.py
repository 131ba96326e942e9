"""`penstock config`: a commented config.pbtxt for an ONNX file, from its graph."""

from pathlib import Path

import click
from tritonclient.grpc import model_config_pb2

from serving.config import Source
from serving.config.commented import commented, draft
from serving.engine.repository import CONFIG_FILENAME, is_model_name, is_version
from serving.errors import LoadFailed


@click.command(
    "config", context_settings={"max_content_width": 100, "help_option_names": ["-h", "--help"]}
)
@click.argument("model", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--name",
    help="The model's name, which its folder must have.  [default: the folder's where the file "
    "lies in a repository, or else the file's]",
)
@click.option(
    "--max-batch-size",
    type=click.IntRange(0, 2**31 - 1),
    help="Rows that one execution may take; 0 for a model that does not batch.  [default: 4 where "
    "the graph can batch, or else 0]",
)
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="The file to write.  [default: standard output]",
)
@click.option(
    "--force", is_flag=True, help="Replace the output file if it exists.  [default: refuse]"
)
def config(
    model: Path, name: str | None, max_batch_size: int | None, output: Path | None, force: bool
) -> None:
    """Print a complete, commented config.pbtxt for the ONNX file MODEL.

    It states every input and output of the graph, whether and why the model batches, and, commented
    out, the options worth knowing. Penstock and Triton take it as it is: put it into the model's
    folder, and MODEL into a version's folder beside it, NAME/1/.
    """
    name = name or _name(model, output)
    if not is_model_name(name):
        raise click.UsageError(f"{name!r} cannot be a model's name; give another by --name")
    try:
        text = describe(model, name, max_batch_size)
    except LoadFailed as error:
        raise click.ClickException(error.message) from error
    if output is None:
        click.echo(text, nl=False)
    else:
        _write(text, output, force)


def describe(model: Path, name: str, max_batch_size: int | None = None) -> str:
    """The text of config.pbtxt for the ONNX file `model`; LoadFailed says why there is none."""
    # Imported here: whoever only asks for --help need not have a runtime installed.
    from serving.engine.backends.ort import OrtBackend

    opened = model_config_pb2.ModelConfig(default_model_filename=model.name)
    session = OrtBackend(threads=1).open(opened, model.parent)
    drafted = draft(name, model.name, session.signature, Source(str(model)), max_batch_size)
    return commented(drafted, session.signature, session.symbols)


def _name(model: Path, output: Path | None) -> str:
    if output and output.name == CONFIG_FILENAME:
        return output.absolute().parent.name
    folder = model.absolute().parent
    return folder.parent.name if is_version(folder.name) else model.stem


def _write(text: str, output: Path, force: bool) -> None:
    try:
        with output.open("w" if force else "x", encoding="utf-8") as file:
            try:
                file.write(text)
                file.flush()
            except OSError:
                if output.is_file():  # half of it would be taken for the whole
                    output.unlink()
                raise
    except FileExistsError:
        raise click.ClickException(f"{output} exists; --force replaces it") from None
    except OSError as error:
        raise click.ClickException(f"{output}: cannot be written: {error.strerror}") from error
