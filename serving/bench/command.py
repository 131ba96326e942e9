"""`penstock bench`: how fast a server answers, and whether that is fast enough."""

import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import click
from click.core import ParameterSource
from rich.console import Console

from serving import headings
from serving.bench import inputs, options, slo
from serving.bench.arrivals import Arrivals, Shape
from serving.bench.client.fleet import Died
from serving.bench.model import Model, Unsuitable, describe
from serving.bench.plan import Protocol, Step, Target
from serving.bench.report.document import to_json
from serving.bench.report.live import Live
from serving.bench.report.text import report
from serving.bench.result import Result
from serving.bench.run import Run, run
from serving.bench.server import Server, Unanswered, server
from serving.flags import FiniteRange

_DEFAULT_LOAD: Final = [1, 8, 32]
_GIVE_UP: Final = 30.0  # seconds, where no timeout was asked for
_SEQUENCE_LENGTH: Final = 20
_INTERRUPTED: Final = 130  # the exit code of what Ctrl-C ended
_FILE_WIDTH: Final = 140
_OPEN_LOOP: Final = ("arrivals", "ramp_from", "burst_size", "max_in_flight")  # with --rate alone
_HEADINGS: Final = {
    "Server": ("url", "protocol", "model_version", "headers", "channels"),
    "Load": (
        *("concurrency", "rate", "arrivals", "ramp_from", "burst_size", "max_in_flight"),
        *("duration", "requests", "warm_up", "timeout", "processes"),
    ),
    "Requests": (
        *("batch_size", "sequence_length", "shapes"),
        *("input_data", "string_length", "outputs", "seed"),
    ),
    "Report": ("objectives", "json_file", "html_file", "png_file", "progress"),
}


@click.command(
    cls=headings.Headed,
    headings=_HEADINGS,
    context_settings={"max_content_width": 100, "help_option_names": ["-h", "--help"]},
)
@click.argument("words", metavar="[URL] MODEL", nargs=-1, required=True)
@click.option(
    "--url",
    help="The server, if not said before MODEL: http://, https://, grpc:// or "
    "grpcs://HOST:PORT.  [default: localhost, port 8000, for gRPC 8001]",
)
@click.option(
    "--protocol",
    type=click.Choice([each.value for each in Protocol]),
    help="How requests travel.  [default: grpc for grpc://, or else rest-binary]",
)
@click.option(
    "--model-version", default="", help="The model's version.  [default: the server's choice]"
)
@click.option(
    "--concurrency",
    type=options.COUNTS,
    help="Closed loop: connections, each of which "
    "asks again once it is answered. A list, or START:END:STEP.  [default: 1,8,32]",
)
@click.option(
    "--rate",
    type=options.RATES,
    help="Open loop: requests per second, sent when they are due. A list, or START:END:STEP.",
)
@click.option(
    "--arrivals",
    type=click.Choice([each.value for each in Shape]),
    default=Shape.POISSON.value,
    show_default=True,
    help="How an open loop's requests come: at "
    "random, evenly, ever faster up to --rate, or several at once.",
)
@click.option(
    "--ramp-from",
    type=FiniteRange(options.RATES_FROM, options.RATES_TO),
    help="Requests per second at which a ramp starts.  [default: a tenth of --rate]",
)
@click.option(
    "--burst-size",
    type=click.IntRange(2, 1_000_000),
    default=10,
    show_default=True,
    help="Requests of a burst.",
)
@click.option(
    "--max-in-flight",
    type=click.IntRange(1),
    default=1024,
    show_default=True,
    help="Open loop: requests under way at a time; further ones wait, which counts as latency.",
)
@click.option(
    "--duration",
    type=options.POSITIVE_SECONDS,
    default="10s",
    show_default=True,
    help="How long each load is measured.",
)
@click.option(
    "--requests",
    type=click.IntRange(1),
    help="Requests to measure at each load, in place of --duration.",
)
@click.option(
    "--warm-up",
    type=options.SECONDS,
    default="2s",
    show_default=True,
    help="How long each load runs before it is measured.",
)
@click.option(
    "--timeout",
    type=options.POSITIVE_SECONDS,
    help="How long a request may take: told "
    "to the server (gRPC deadline, request parameter), and kept here.  [default: 30s, kept here]",
)
@click.option(
    "--batch-size",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="Rows of each request.",
)
@click.option(
    "--sequence-length",
    type=click.IntRange(1),
    help="Requests of each sequence, one after the other.  [default: 20 for a model whose "
    "configuration has sequence_batching]",
)
@click.option(
    "--shape",
    "shapes",
    type=options.SHAPE,
    multiple=True,
    metavar="NAME:1,28,28",
    help="The dimensions, without the batch, of an input that has variable ones.",
)
@click.option(
    "--input-data",
    default="random",
    show_default=True,
    metavar="random|zero|FILE",
    help="What is sent: a .npz file of arrays, or perf_analyzer's .json; answers are compared with "
    "the outputs that it holds.",
)
@click.option(
    "--string-length",
    type=click.IntRange(0),
    default=16,
    show_default=True,
    help="Letters of each random string.",
)
@click.option(
    "--output",
    "outputs",
    multiple=True,
    metavar="NAME",
    help="An output to ask for.  [default: all]",
)
@click.option(
    "--header",
    "headers",
    type=options.HEADER,
    multiple=True,
    metavar="'Name: value'",
    help="Sent with every request, as metadata over gRPC.",
)
@click.option(
    "--slo",
    "objectives",
    type=options.OBJECTIVE,
    multiple=True,
    metavar="p99=10ms",
    help="What every load must meet: p50…p99.99, mean or max of latency, errors=0.1%, "
    "throughput=500/s, goodput=500/s. Without errors=, none are allowed.",
)
@click.option(
    "--processes",
    type=click.IntRange(1, 1024),
    default=1,
    show_default=True,
    help="Processes that share the load; one sends some ten thousand requests a second over REST, "
    "two thousand over gRPC.",
)
@click.option(
    "--channels",
    type=click.IntRange(1),
    default=1,
    show_default=True,
    help="gRPC connections of each process.",
)
@click.option(
    "--seed",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Makes random inputs and arrivals repeatable.",
)
@click.option(
    "--json", "json_file", type=options.NEW_FILE, help="Write the result as a JSON document."
)
@click.option(
    "--html", "html_file", type=options.NEW_FILE, help="Write a page with the latency curve."
)
@click.option(
    "--png", "png_file", type=options.NEW_FILE, help="Write the latency curve as a picture."
)
@click.option(
    "--progress/--no-progress",
    default=True,
    show_default=True,
    help="Whether to show how far it is.",
)
def bench(words: Sequence[str], **wishes: Any) -> None:
    """Measure how fast a server of the Open Inference Protocol answers for MODEL.

    Any server: Penstock, Triton, KServe and others. Inputs are made up from the model's metadata.

    \b
    penstock bench localhost:8000 mnist-cnn
    penstock bench grpc://gpu-1:8001 resnet --rate 100:1000:100 --slo p99=20ms --html curve.html

    Several loads in one run draw the latency curve. In an open loop the latency of a request counts
    from when it was due, so that what waited behind a slow answer is not left out.

    The exit code is 0 if every load meets every --slo (without one: if something was answered), 1
    if not, 2 for wrong usage, and 130 after Ctrl-C, which reports what was measured until then.
    """
    try:
        plan, asked = _plan(words, wishes)
        console = Console(stderr=True, quiet=not wishes["progress"])
        with _interrupts() as interrupted:
            result = run(plan, asked, Live(console, len(plan.steps)), lambda: bool(interrupted))
    except Unsuitable as error:
        raise click.UsageError(str(error)) from error
    except (Unanswered, Died) as error:
        raise click.ClickException(str(error)) from error
    if result.steps:
        report(result, _console())
        _write(result, wishes)
    sys.exit(_INTERRUPTED if not result.is_complete else 0 if result.passed else 1)


def _console() -> Console:
    """Standard output; a file or a pipe has room for all columns."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=_FILE_WIDTH)


@contextmanager
def _interrupts() -> Iterator[list[int]]:
    """Collect the first Ctrl-C or SIGTERM; a second one ends the program as it always does."""
    seen: list[int] = []

    def note(number: int, _: Any) -> None:
        seen.append(number)
        signal.signal(number, previous[signal.Signals(number)])

    numbers = (signal.SIGINT, signal.SIGTERM)
    previous = {number: signal.signal(number, note) for number in numbers}
    try:
        yield seen
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _plan(words: Sequence[str], wishes: dict[str, Any]) -> tuple[Run, Server]:
    target = _target(words, wishes)
    steps = _steps(wishes)
    try:
        objectives = slo.complete(wishes["objectives"])
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    asked = server(target)
    shapes = dict(wishes["shapes"])
    model = describe(asked.model(), asked.config(), wishes["batch_size"], shapes, wishes["outputs"])
    length = _sequence_length(wishes["sequence_length"], model)
    plan = Run(
        target=target,
        model=model,
        samples=inputs.samples(
            wishes["input_data"], model, wishes["string_length"], wishes["seed"]
        ),
        outputs=wishes["outputs"],
        timeout=wishes["timeout"],
        steps=steps,
        objectives=objectives,
        processes=wishes["processes"],
        channels=wishes["channels"],
        data=wishes["input_data"] + (f", in sequences of {length}" if length else ""),
        command=options.command_line(sys.argv[1:]),
        sequence_length=length,
    )
    return plan, asked


def _sequence_length(wish: int | None, model: Model) -> int:
    """0 where requests belong to no sequences; what a server does not tell, the user may know."""
    return wish or (_SEQUENCE_LENGTH if model.idle else 0)


def _target(words: Sequence[str], wishes: dict[str, Any]) -> Target:
    *before, model = words
    named = [*before, *([wishes["url"]] if wishes["url"] else [])]
    if len(named) > 1:
        raise click.UsageError(f"expected one URL and one MODEL, got {' '.join((*named, model))}")
    protocol = Protocol(wishes["protocol"]) if wishes["protocol"] else None
    try:
        chosen, host, port, is_tls, prefix = options.address(
            named[0] if named else "localhost", protocol
        )
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    headers = dict(wishes["headers"])
    return Target(chosen, host, port, model, wishes["model_version"], is_tls, prefix, headers)


def _steps(wishes: dict[str, Any]) -> list[Step]:
    if wishes["concurrency"] and wishes["rate"]:
        raise click.UsageError("--concurrency is a closed loop and --rate an open one: choose one")
    common = {
        "duration": 0.0 if wishes["requests"] else wishes["duration"],
        "requests": wishes["requests"] or 0,
        "warm_up": wishes["warm_up"],
        "timeout": wishes["timeout"] or _GIVE_UP,
    }
    if not wishes["rate"]:
        _refuse_for_closed_loop()
        loads = wishes["concurrency"] or _DEFAULT_LOAD
        return [Step(in_flight=connections, **common) for connections in loads]
    limit = wishes["max_in_flight"]
    return [
        Step(in_flight=limit, arrivals=_arrivals(rate, wishes), **common) for rate in wishes["rate"]
    ]


def _refuse_for_closed_loop() -> None:
    """UsageError for options that a closed loop would not heed."""
    context = click.get_current_context()
    for name in _OPEN_LOOP:
        if context.get_parameter_source(name) is ParameterSource.COMMANDLINE:
            option = "--" + name.replace("_", "-")
            raise click.UsageError(f"{option} is for an open loop: say how many requests by --rate")


def _arrivals(rate: float, wishes: dict[str, Any]) -> Arrivals:
    shape = Shape(wishes["arrivals"])
    if shape is Shape.RAMP:
        if wishes["requests"]:
            raise click.UsageError("a ramp takes its time: use --duration, not --requests")
        start = wishes["ramp_from"] or rate / 10
        return Arrivals(shape, rate, start=start, hold=wishes["warm_up"], rise=wishes["duration"])
    burst = wishes["burst_size"] if shape is Shape.BURST else 1
    return Arrivals(shape, rate, seed=wishes["seed"], burst=burst)


def _write(result: Result, wishes: dict[str, Any]) -> None:
    """Every file that can be written; a ClickException says which cannot."""
    failures = []
    for option, make in (("json_file", to_json), ("html_file", _page), ("png_file", _picture)):
        path, content = wishes[option], b""
        try:
            if path and (content := make(result)):
                path.write_bytes(content)
        except OSError as error:
            failures.append(f"{path}: cannot be written: {error.strerror}")
    if failures:
        raise click.ClickException("; ".join(failures))


def _page(result: Result) -> bytes:
    from serving.bench.report.page import html

    return html(result).encode()


def _picture(result: Result) -> bytes:
    from serving.bench.report.charts import charts
    from serving.bench.report.png import png

    if drawings := charts(result):
        return png(drawings)
    click.echo("no picture is written: nothing was answered", err=True)
    return b""
