"""How much slower answers are while their model is reloaded: p50 and p99 with and without, one run.

    python -m bench.reload --model mnist-cnn --rounds 4 --seconds 5

Starts a server on a copy of the repository and alternates spells without and with reloads, one
after the other with a pause between them; each is a real one, as the model's file looks changed
each time. Requests arrive at a fixed rate, and a request's time counts from the moment when it
should have been sent: what waits behind a stall is not hidden.
"""

import argparse
import shutil
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType
from typing import Any, Final

import numpy as np
import tritonclient.grpc
import tritonclient.http
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from tritonclient.utils import triton_to_np_dtype

from bench.machine import hardware
from bench.peers import ours

PROTOCOLS: Final[Mapping[str, tuple[ModuleType, ...]]] = {
    "http": (tritonclient.http,),
    "grpc": (tritonclient.grpc,),
    "both": (tritonclient.http, tritonclient.grpc),
}


@dataclass(slots=True)
class Measured:
    """Seconds of every request and of every reload."""

    requests: list[float] = field(default_factory=list)
    reloads: list[float] = field(default_factory=list)


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.reload",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--repository", type=Path, default=Path("model_repository"))
    parser.add_argument("--model", default="mnist-cnn")
    parser.add_argument("--model-version", default="1", help="the version that is reloaded")
    parser.add_argument("--protocol", choices=PROTOCOLS, default="both")
    parser.add_argument("--clients", type=int, default=2, help="of each protocol")
    parser.add_argument("--rate", type=float, default=200, help="requests per second, in all")
    parser.add_argument("--rows", type=int, default=1, help="rows of each request")
    parser.add_argument("--rounds", type=int, default=4, help="spells of each kind")
    parser.add_argument("--seconds", type=float, default=5, help="how long a spell lasts")
    parser.add_argument("--pause", type=float, default=0.5, help="seconds between two reloads")
    return parser.parse_args(given)


@dataclass(frozen=True, slots=True)
class Client:
    """One connection that asks one thing."""

    module: ModuleType
    address: str
    model: str
    rows: int

    def ask(self, begin: float, seconds: float, gap: float) -> list[float]:
        """Ask every `gap` seconds from `begin` on; the seconds from when each was due."""
        taken = []
        with self.module.InferenceServerClient(self.address) as connection:
            infer = partial(connection.infer, self.model, self._inputs(connection))
            infer()  # connects
            for number in range(int(seconds / gap)):
                due = begin + number * gap
                time.sleep(max(0.0, due - time.perf_counter()))
                infer()
                taken.append(time.perf_counter() - due)
        return taken

    def _inputs(self, connection: Any) -> list[Any]:
        """Zeros for every input of the model."""
        is_grpc = self.module is tritonclient.grpc
        options = {"as_json": True} if is_grpc else {}
        inputs = []
        for spec in connection.get_model_metadata(self.model, **options)["inputs"]:
            shape = [self.rows, *(max(int(dim), 1) for dim in spec["shape"][1:])]
            item = self.module.InferInput(spec["name"], shape, spec["datatype"])
            item.set_data_from_numpy(np.zeros(shape, triton_to_np_dtype(spec["datatype"])))
            inputs.append(item)
        return inputs


def reload(address: str, model: str, file: Path, until: float, pause: float) -> list[float]:
    """Reload until that moment; the seconds of each load, from the call to its answer."""
    taken = []
    with tritonclient.http.InferenceServerClient(address, network_timeout=600) as connection:
        while time.perf_counter() < until:
            file.touch()
            begin = time.perf_counter()
            connection.load_model(model)
            taken.append(time.perf_counter() - begin)
            time.sleep(pause)
    return taken


def spell(
    clients: Sequence[Client], options: argparse.Namespace, file: Path | None, into: Measured
) -> None:
    """One spell of requests, with reloads of `file` if it is given."""
    gap = len(clients) / options.rate
    begin = time.perf_counter() + 0.5  # until then all are connected
    with ThreadPoolExecutor(len(clients) + 1) as pool:
        asked = [
            pool.submit(each.ask, begin + index * gap / len(clients), options.seconds, gap)
            for index, each in enumerate(clients)
        ]
        if file:
            time.sleep(max(0.0, begin - time.perf_counter()))
            until = begin + options.seconds
            into.reloads += reload(clients[0].address, options.model, file, until, options.pause)
        for each in asked:
            into.requests += each.result()


def measure(options: argparse.Namespace, repository: Path) -> tuple[Measured, Measured]:
    """What requests took without and with reloads."""
    without, during = Measured(), Measured()
    file = repository / options.model / options.model_version / "model.onnx"
    flags = ("--model-control-mode=explicit", f"--load-model={options.model}")
    with ours.serve(repository, *flags) as running, Progress() as progress:
        clients = [
            Client(
                module,
                running.grpc if module is tritonclient.grpc else running.http,
                options.model,
                options.rows,
            )
            for module in PROTOCOLS[options.protocol]
            for _ in range(options.clients)
        ]
        # Reloads go over REST, whatever the clients speak.
        clients.sort(key=lambda client: client.address != running.http)
        task = progress.add_task("measuring", total=2 * options.rounds)
        for _ in range(options.rounds):
            for given, into in ((None, without), (file, during)):
                spell(clients, options, given, into)
                progress.advance(task)
    return without, during


def report(without: Measured, during: Measured) -> Table:
    """Both beside each other, and their ratio."""
    table = Table("", "without reloads", "with reloads", "ratio", title="time of a request")
    table.add_row("n", str(len(without.requests)), str(len(during.requests)), "")
    for share in (50, 90, 99, 99.9, 100):
        ends = [float(np.percentile(each.requests, share)) for each in (without, during)]
        name = "max" if share == 100 else f"p{share}"
        table.add_row(name, *(f"{1000 * end:.2f} ms" for end in ends), f"{ends[1] / ends[0]:.2f}")
    loads = np.array(during.reloads)
    table.add_row("reloads", "0", str(len(loads)), "")
    table.add_row(
        "a reload takes", "", f"{1000 * loads.mean():.0f} ± {1000 * loads.std():.0f} ms", ""
    )
    return table


def main() -> None:
    """Measure and print."""
    options = arguments()
    console = Console()
    with TemporaryDirectory(prefix="bench-reload-") as scratch:
        repository = Path(scratch) / "models"
        shutil.copytree(options.repository / options.model, repository / options.model)
        without, during = measure(options, repository)
    console.print(report(without, during))
    console.print(
        f"{options.model}, {options.rate:g} requests/s of {options.rows} rows; {hardware()}; "
        "clients and server share the machine"
    )


if __name__ == "__main__":
    main()
