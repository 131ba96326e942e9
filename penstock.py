"""The front door: every command of `penstock`, each loaded only when it is called."""

import errno
import io
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.metadata import version
from types import FrameType
from typing import Any, Final, NamedTuple

import click


class _Entry(NamedTuple):
    """Where a command lives, what it needs installed, and what it does."""

    module: str
    name: str
    extra: str
    summary: str


_COMMANDS: Final = {
    "train": _Entry("training.command", "train", "train", "Train a model by recipe."),
    "compare": _Entry(
        "training.compare_command",
        "compare",
        "train",
        "Train a recipe with every optimiser, activation or initialisation.",
    ),
    "search": _Entry(
        "export.search.command",
        "search",
        "export,cpu",
        "Search a recipe's networks for accurate and fast ones.",
    ),
    "export": _Entry(
        "export.command",
        "export",
        "export,cpu",
        "Prove a checkpoint and publish it to a repository.",
    ),
    "import": _Entry(
        "export.import_command",
        "import_",
        "import,cpu",
        "Prove an ONNX file of any origin and publish it to a repository.",
    ),
    "validate": _Entry(
        "serving.validate.command",
        "validate",
        "cpu",
        "Check every model of a repository without serving any.",
    ),
    "doctor": _Entry(
        "serving.doctor.command",
        "doctor",
        "cpu",
        "Check this machine, and say what to change before it serves.",
    ),
    "config": _Entry(
        "serving.config_command",
        "config",
        "cpu",
        "Print a commented config.pbtxt for an ONNX file.",
    ),
    "serve": _Entry(
        "serving.command", "serve", "cpu", "Serve model repositories over REST and gRPC."
    ),
    "bench": _Entry(
        "serving.bench.command",
        "bench",
        "bench",
        "Measure how fast a server answers, and hold it against an SLO.",
    ),
    "tune": _Entry(
        "serving.tune.command",
        "tune",
        "bench,cpu",
        "Measure how a model is best served on this machine.",
    ),
}


def _missing(package: str | None, command: str) -> click.ClickException:
    return click.ClickException(
        f"penstock {command} needs the package {package!r}, which is not installed: "
        f"pip install 'penstock[{_COMMANDS[command].extra}]'"
    )


def _warn_of_variables() -> None:
    """Name the variables that look like ours and that nothing reads."""
    # To know the settings takes as long as all else here; few have any such variable.
    if not any(name.startswith("PENSTOCK_") for name in os.environ):
        return
    from serving.variables import unread

    for sentence in unread(os.environ):
        click.echo(f"Warning: {sentence}", err=True)


def _open_what_is_closed() -> None:
    """Let a standard stream that somebody has closed lead nowhere.

    The next file or connection would have its number, and what libraries print would go there.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115  # for good


@contextmanager
def _interrupted_by_sigterm(terminated: threading.Event) -> Iterator[None]:
    """Have SIGTERM do what Ctrl-C does, so that no command leaves behind what is half made.

    Servers and measurements have handlers of their own once they run.
    """

    def interrupt(_: int, frame: FrameType | None) -> None:
        terminated.set()
        handler = signal.getsignal(signal.SIGINT)
        # Ignored where a shell has started the command in the background.
        if not callable(handler):
            raise KeyboardInterrupt
        handler(signal.SIGINT, frame)

    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL:
        yield
        return
    signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


class _Penstock(click.Group):
    """Lists all commands without importing any: `--help` is quick and needs no extra."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = _COMMANDS.get(cmd_name)
        if entry is None:
            return None
        try:
            command = getattr(import_module(entry.module), entry.name)
        except ModuleNotFoundError as error:
            raise _missing(error.name, cmd_name) from error
        assert isinstance(command, click.Command)
        return command

    def main(self, *args: Any, **extra: Any) -> Any:
        """As click has it, whatever the output can spell, and where a disk has no room for it."""
        _open_what_is_closed()
        if isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="replace")
        try:
            return super().main(*args, **extra)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            where = error.filename or "the output"
            click.echo(f"Error: {where}: cannot be written: {error.strerror}", err=True)
            if error.filename is None:
                from serving.standard_output import give_up

                give_up()
            sys.exit(1)

    def invoke(self, ctx: click.Context) -> Any:
        _warn_of_variables()
        terminated = threading.Event()
        try:
            with _interrupted_by_sigterm(terminated):
                return super().invoke(ctx)
        except KeyboardInterrupt:
            click.echo("\nAborted!", err=True)
            # As shells have it; click's 1 is what a measurement says of a missed objective.
            ctx.exit(128 + (signal.SIGTERM if terminated.is_set() else signal.SIGINT))
        except ModuleNotFoundError as error:
            # What a command imports only once it runs may be missing as well.
            if ctx.invoked_subcommand is None:
                raise
            raise _missing(error.name, ctx.invoked_subcommand) from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.summary) for name, entry in _COMMANDS.items()])


@click.group(cls=_Penstock, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(version("penstock"), message="penstock %(version)s")
def main() -> None:
    """Take a model from training to traffic: train it, prove it, serve it."""


if __name__ == "__main__":
    main()
