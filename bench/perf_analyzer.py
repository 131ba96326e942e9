"""Triton's own load generator, perf_analyzer, against Penstock: REST and gRPC in one table.

    python -m bench.perf_analyzer --model mnist-cnn --concurrency 1 4 16

Starts a server of its own on free ports, or asks the one that --http and --grpc name. What follows
`--` goes to perf_analyzer as it is, such as `-- --async --input-data zero`.

perf_analyzer is no part of Penstock. It is looked for at --binary, at $PERF_ANALYZER and on the
PATH; libraries that the system lacks are looked for in --libraries, and where nvidia-pytriton
keeps them in the environment for the tests with a real Triton.
"""

import argparse
import csv
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

from rich.console import Console
from rich.table import Table

from bench.machine import Unavailable
from bench.peers import ours, triton

VARIABLE: Final = "PERF_ANALYZER"
WHEEL: Final = (
    "perf_analyzer is not here: {places}. For Linux on x86-64 it comes with a wheel:\n"
    "  pip download --no-deps --only-binary=:all: --platform manylinux1_x86_64 "
    "tritonclient==2.50.0\n"
    "  unzip -j tritonclient-2.50.0-*.whl '*/bin/perf_analyzer' && chmod +x perf_analyzer\n"
    "then name it: --binary ./perf_analyzer"
)
# Who brings what the program may lack.
SOURCES: Final = {
    "libb64.so.0d": "apt-get install libb64-0d, or nvidia-pytriton's wheel",
    "libcudart.so.12": "pip install nvidia-cuda-runtime-cu12, or nvidia-pytriton's wheel",
}
_MISSING: Final = re.compile(r"^\s*(\S+) => not found$", re.MULTILINE)
_LEFT: Final = 4096  # characters of what a failed program said


@dataclass(frozen=True, slots=True)
class Program:
    """A perf_analyzer that can run, with the environment that it needs."""

    path: Path
    environment: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Figures:
    """One measurement; latencies as the client saw them, phases as the server counted, in us."""

    protocol: str
    concurrency: int
    throughput: float
    p50: int
    p90: int
    p99: int
    queue: int
    compute: int


def find(named: Path | None) -> Path:
    """The program's file; Unavailable says where it was looked for and how to get it."""
    told = named or (Path(os.environ[VARIABLE]) if VARIABLE in os.environ else None)
    if told:
        if os.access(told, os.X_OK) and told.is_file():
            return told.resolve()
        raise Unavailable(WHEEL.format(places=f"{told} is no program"))
    found = shutil.which("perf_analyzer")
    if found:
        return Path(found)
    raise Unavailable(WHEEL.format(places=f"not on the PATH, and ${VARIABLE} is not set"))


def library_folders(named: Sequence[Path]) -> list[Path]:
    """Where to look for libraries: those named, and nvidia-pytriton's own."""
    return [*named, *sorted(triton.root().glob("lib/python*/site-packages/nvidia_pytriton.libs"))]


@contextmanager
def runnable(path: Path, folders: Sequence[Path]) -> Iterator[Program]:
    """The program with its libraries; Unavailable names those that are nowhere."""
    with TemporaryDirectory(prefix="perf-analyzer-") as links:
        lacking = []
        for name in missing_libraries(path, os.environ):
            library = find_library(name, folders)
            if library:
                Path(links, name).symlink_to(library)
            else:
                lacking.append(f"  {name} ({SOURCES.get(name, 'of your system')})")
        if lacking:
            places = "".join(f", nor in {folder}" for folder in folders)
            raise Unavailable(
                f"{path} lacks libraries that are not on the system{places}:\n" + "\n".join(lacking)
            )
        search = os.pathsep.join(filter(None, (links, os.environ.get("LD_LIBRARY_PATH", ""))))
        environment = os.environ | {"LD_LIBRARY_PATH": search}
        _try(path, environment)
        yield Program(path, environment)


def missing_libraries(path: Path, environment: Mapping[str, str]) -> list[str]:
    """The shared libraries that the loader does not find for the program."""
    loader = shutil.which("ldd")
    if not loader:
        return []
    told = subprocess.run(
        [loader, path], capture_output=True, text=True, env=environment, check=False
    )
    return _MISSING.findall(told.stdout)


def find_library(name: str, folders: Iterable[Path]) -> Path | None:
    """A file for `lib*.so.N`, also under the name that a repaired wheel gives it."""
    stem, _, version = name.partition(".so")
    for folder in folders:
        for pattern in (f"{name}*", f"{stem}-*.so{version}*"):
            found = sorted(folder.glob(pattern))
            if found:
                return found[0].resolve()
    return None


def _try(path: Path, environment: Mapping[str, str]) -> None:
    """Unavailable unless the program starts on this machine."""
    try:
        told = subprocess.run(
            [path, "--version"], capture_output=True, text=True, env=environment, check=False
        )
    except OSError as error:
        raise Unavailable(f"{path} cannot be started: {error}") from error
    said = told.stdout + told.stderr
    if "Perf Analyzer" not in said:
        raise Unavailable(f"{path} is no perf_analyzer: {said[:_LEFT]}")


def measure(
    program: Program, protocol: str, url: str, options: Sequence[str], concurrency: Sequence[int]
) -> list[Figures]:
    """The figures for each concurrency; SystemExit with perf_analyzer's words if it fails."""
    figures = []
    for clients in concurrency:
        with TemporaryDirectory() as folder:
            report = Path(folder, "report.csv")
            command = [
                *(str(program.path), "-i", protocol, "-u", url, *options),
                *(f"--concurrency-range={clients}", "--verbose-csv", "-f", str(report)),
            ]
            told = subprocess.run(
                command, capture_output=True, text=True, env=program.environment, check=False
            )
            if told.returncode or not report.exists():
                raise SystemExit(
                    f"perf_analyzer failed ({told.returncode}): {' '.join(command)}\n"
                    f"{(told.stdout + told.stderr)[-_LEFT:]}"
                )
            figures += read(protocol, report.read_text())
    return figures


def read(protocol: str, report: str) -> list[Figures]:
    """The figures in a report of perf_analyzer, a CSV."""
    return [
        Figures(
            protocol=protocol,
            concurrency=int(row["Concurrency"]),
            throughput=float(row["Inferences/Second"]),
            p50=int(row["p50 latency"]),
            p90=int(row["p90 latency"]),
            p99=int(row["p99 latency"]),
            queue=int(row["Server Queue"]),
            compute=sum(
                int(row[f"Server Compute {part}"]) for part in ("Input", "Infer", "Output")
            ),
        )
        for row in csv.DictReader(report.splitlines())
    ]


def table(model: str, figures: Sequence[Figures]) -> Table:
    """The figures as a person reads them."""
    drawn = Table(title=f"perf_analyzer on {model}", caption="times in milliseconds")
    for heading in ("protocol", "clients", "inferences/s", "p50", "p90", "p99", "queue", "compute"):
        drawn.add_column(heading, justify="left" if heading == "protocol" else "right")
    for one in figures:
        times = (one.p50, one.p90, one.p99, one.queue, one.compute)
        milliseconds = (f"{time / 1000:.2f}" for time in times)
        drawn.add_row(one.protocol, str(one.concurrency), f"{one.throughput:.1f}", *milliseconds)
    return drawn


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m bench.perf_analyzer", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--binary", type=Path, help="perf_analyzer itself")
    parser.add_argument("--libraries", type=Path, nargs="*", default=[], help="folders of its own")
    parser.add_argument("--repository", type=Path, default=Path("model_repository"))
    parser.add_argument("--http", help="host:port of a server that runs already; with --grpc")
    parser.add_argument("--grpc", help="host:port of a server that runs already; with --http")
    parser.add_argument("--model", default="mnist-cnn")
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--requests", type=int, default=500, help="of each measurement window")
    parser.add_argument("options", nargs="*", help="options of perf_analyzer, after --")
    return parser.parse_args(given)


def run(told: argparse.Namespace) -> list[Figures]:
    """The figures of both protocols; Unavailable says why there are none."""
    options = ["-m", told.model, "--measurement-mode=count_windows", *told.options]
    options += [f"--measurement-request-count={told.requests}"]
    with ExitStack() as stack:
        folders = library_folders(told.libraries)
        program = stack.enter_context(runnable(find(told.binary), folders))
        if told.http and told.grpc:
            urls = (told.http, told.grpc)
        else:
            running = stack.enter_context(ours.serve(told.repository))
            urls = (running.http, running.grpc)
        return [
            one
            for protocol, url in zip(("http", "grpc"), urls, strict=True)
            for one in measure(program, protocol, url, options, told.concurrency)
        ]


def main(given: Sequence[str] | None = None) -> None:
    """Measure and print; exit code 2 says that perf_analyzer cannot run here, and why."""
    told = arguments(given)
    try:
        figures = run(told)
    except Unavailable as reason:
        print(reason, file=sys.stderr)
        sys.exit(2)
    Console().print(table(told.model, figures))


if __name__ == "__main__":
    main()
