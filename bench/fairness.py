"""How much slower a fast model answers while a slow one, on the same processor, is saturated.

    python -m bench.fairness --requests 2000 --rounds 3

Serves two models from one processor, and asks from another: a fast one, one request after the
other, and a slow one, whose batches take tens of milliseconds, on so many connections that it never
runs out of requests. Spells of a fixed number of requests to the fast one, with the slow one idle
and saturated, follow each other. A fast model that had to wait for the slow one's batches would
take as long as these.
"""

import argparse
import http.client
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from tritonclient.http import InferenceServerClient, InferInput

from bench.machine import cores, hardware, pinned
from bench.peers import ours

FAST: Final = "fast"
SLOW: Final = "slow"
# Width, layers and rows of a request: some hundred microseconds, and some tens of milliseconds.
SIZES: Final = {FAST: (64, 2, 1), SLOW: (1024, 12, 64)}
_CONFIG: Final = """\
backend: "onnxruntime"
max_batch_size: 64
instance_group {{ count: {instances} }}
dynamic_batching {{ preferred_batch_size: [{rows}] }}
"""


@dataclass(slots=True)
class Measured:
    """Seconds of every request to either model; one to the slow one is a batch of its own."""

    fast: list[float] = field(default_factory=list)
    slow: list[float] = field(default_factory=list)


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.fairness",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--requests", type=int, default=2000, help="to the fast model, in a spell")
    parser.add_argument("--rounds", type=int, default=3, help="spells of each kind")
    parser.add_argument("--instances", type=int, default=1, help="of the slow model")
    parser.add_argument("--connections", type=int, default=4, help="that ask the slow model")
    return parser.parse_args(given)


def publish(repository: Path, name: str, instances: int) -> None:
    """A chain of matrix products, as wide and as long as `SIZES` says."""
    width, layers, rows = SIZES[name]
    numbers = np.random.default_rng(0)
    names = [f"t{index}" for index in range(layers + 1)]
    weights = [
        numpy_helper.from_array(
            numbers.standard_normal((width, width), np.float32) / np.float32(width**0.5),
            f"w{index}",
        )
        for index in range(layers)
    ]
    nodes = [
        helper.make_node("MatMul", [names[index], f"w{index}"], [names[index + 1]])
        for index in range(layers)
    ]
    ends = [
        helper.make_tensor_value_info(each, TensorProto.FLOAT, ["batch", width])
        for each in (names[0], names[-1])
    ]
    graph = helper.make_graph(nodes, name, ends[:1], ends[1:], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    folder = repository / name / "1"
    folder.mkdir(parents=True)
    onnx.save(model, folder / "model.onnx")
    (folder.parent / "config.pbtxt").write_text(_CONFIG.format(rows=rows, instances=instances))


class Caller:
    """One connection that asks one model the same thing again and again."""

    def __init__(self, address: str, model: str) -> None:
        width, _, rows = SIZES[model]
        item = InferInput("t0", [rows, width], "FP32")
        item.set_data_from_numpy(np.ones((rows, width), np.float32))
        body, length = InferenceServerClient.generate_request_body([item])
        self._body = body
        self._headers = {"Inference-Header-Content-Length": str(length)}
        self._path = f"/v2/models/{model}/infer"
        self._connection = http.client.HTTPConnection(address, timeout=60)

    def ask(self) -> float:
        """Seconds until the answer is there."""
        began = time.perf_counter()
        self._connection.request("POST", self._path, self._body, self._headers)
        answer = self._connection.getresponse()
        content = answer.read()
        assert answer.status == 200, content
        return time.perf_counter() - began

    def close(self) -> None:
        """Give the connection back."""
        self._connection.close()


@contextmanager
def saturated(address: str, connections: int, into: list[float]) -> Iterator[None]:
    """The slow model has as many requests as there are connections, as long as the block runs."""
    enough, begun = threading.Event(), threading.Barrier(connections + 1)

    def ask() -> None:
        with closing(Caller(address, SLOW)) as caller:
            try:
                caller.ask()
            except BaseException:
                begun.abort()
                raise
            begun.wait()
            while not enough.is_set():
                into.append(caller.ask())

    threads = [threading.Thread(target=ask) for _ in range(connections)]
    for thread in threads:
        thread.start()
    begun.wait()
    try:
        yield
    finally:
        enough.set()
        for thread in threads:
            thread.join()


def spell(address: str, requests: int) -> list[float]:
    """The seconds of that many requests to the fast model, one after the other."""
    caller = Caller(address, FAST)
    caller.ask()
    taken = [caller.ask() for _ in range(requests)]
    caller.close()
    return taken


def measure(options: argparse.Namespace, repository: Path) -> tuple[Measured, Measured]:
    """What the fast model's requests took alone, and beside the slow model."""
    alone, beside = Measured(), Measured()
    places = cores()
    with ExitStack() as stack:
        with pinned(places.server):
            running = stack.enter_context(ours.serve(repository))
        stack.enter_context(pinned(places.load))
        progress = stack.enter_context(Progress())
        task = progress.add_task("measuring", total=2 * options.rounds)
        for _ in range(options.rounds):
            alone.fast += spell(running.http, options.requests)
            progress.advance(task)
            with saturated(running.http, options.connections, beside.slow):
                beside.fast += spell(running.http, options.requests)
            progress.advance(task)
    return alone, beside


def report(alone: Measured, beside: Measured) -> Table:
    """Both beside each other, and their ratio."""
    table = Table("", "alone", "beside", "ratio", title="time of a request to the fast model")
    table.add_row("n", str(len(alone.fast)), str(len(beside.fast)), "")
    for share in (50, 90, 99, 99.9, 100):
        ends = [float(np.percentile(each.fast, share)) for each in (alone, beside)]
        name = "max" if share == 100 else f"p{share}"
        table.add_row(name, *(f"{1000 * end:.2f} ms" for end in ends), f"{ends[1] / ends[0]:.2f}")
    slow = 1000 * np.array(beside.slow)
    table.add_row("slow: n", "", str(len(slow)), "")
    table.add_row("slow: p50", "", f"{np.percentile(slow, 50):.0f} ms", "")
    return table


def main() -> None:
    """Measure and print."""
    options = arguments()
    console = Console()
    with TemporaryDirectory(prefix="bench-fairness-") as scratch:
        repository = Path(scratch)
        publish(repository, FAST, instances=1)
        publish(repository, SLOW, options.instances)
        alone, beside = measure(options, repository)
    console.print(report(alone, beside))
    console.print(
        f"{options.connections} connections to {options.instances} instances of the slow model; "
        f"{hardware()}; server and load have one processor each"
    )


if __name__ == "__main__":
    main()
