"""How much of the runtime's throughput on a GPU reaches a client, by model, batch and way.

    python -m bench.gpu --device cuda --save          # leaves results/gpu.json and gpu.md
    python -m bench.gpu --device cpu --batches 1 8 --seconds 1 --rounds 1

By turns: ONNX Runtime alone on one thread, the engine in its own process, a server over REST with
the binary extension, and one over gRPC. Every request is a batch of so many rows and is run as it
is (no dynamic batching), so that all ways run the same. The share is a way's rows a second over
those of the runtime alone, round by round. Client and server share the machine.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from rich.console import Console

from bench.machine import Unavailable
from bench.record import RESULTS, provenance
from bench.report import Sheet
from bench.shares import RAW, WAYS, Load, Way, prepared, ways
from bench.windows import Spread
from serving.devices import Device, Gpus, Wish
from serving.engine.backends.gpus import find_gpus
from serving.errors import LoadFailed
from serving.nvml import NoNvml, Nvml

MODELS: Final = ("mnist-cnn", "cifar10-resnet", "agnews-transformer")
BATCHES: Final = (1, 2, 4, 8, 16, 32, 64, 128, 256)
WIDTH: Final = 150  # of what goes to no terminal
CAPTION: Final = (
    "Medians of the rounds, in rows a second; in brackets the share of what the runtime alone "
    "does, with the least and the most of the rounds."
)


@dataclass(frozen=True, slots=True)
class Measured:
    """Rows a second of each way, round by round, of one model at one batch size."""

    model: str
    rows: int
    rates: Mapping[str, Sequence[float]]

    def share(self, way: str) -> Spread:
        """Of what the runtime alone does."""
        pairs = zip(self.rates[way], self.rates[RAW], strict=True)
        return Spread.of([rate / raw for rate, raw in pairs])


def measure(asked: argparse.Namespace, gpus: Gpus, console: Console) -> list[Measured]:
    """Every model at every batch size, each on a server of its own."""
    found = []
    for model in dict.fromkeys(asked.models):
        with TemporaryDirectory(prefix="bench-gpu-") as scratch:
            repository = Path(scratch) / "models"
            most = max(asked.batches)
            subject = prepared(model, asked.repository, repository, most, asked.tokens)
            gpu = gpus.ids[0] if gpus.ids else None
            device = asked.device if gpu is None else alone(asked.device, gpu)
            with ways(subject, device, gpu) as all_ways:
                wanted = [way for way in all_ways if way.name in (RAW, *asked.ways)]
                for rows in asked.batches:
                    load = Load(rows, asked.seconds, asked.clients)
                    found.append(of(model, wanted, load, asked.rounds))
                    console.print(f"{model}, {rows} rows: {_told(found[-1])}")
    return found


def alone(wish: Wish, gpu: int) -> Wish:
    """One GPU of the wish, so that one session of the runtime is its equal."""
    # What is left open (auto) has no numbers.
    device = wish.device if wish.is_binding else Device.CUDA
    return Wish(device, (gpu,))


def of(model: str, all_ways: Sequence[Way], load: Load, rounds: int) -> Measured:
    """By turns, so that what drifts on the machine drifts for all alike."""
    rates: dict[str, list[float]] = {way.name: [] for way in all_ways}
    for _ in range(rounds):
        for way in all_ways:
            rates[way.name].append(way.rate(load))
    return Measured(model, load.rows, rates)


def sheet(found: Sequence[Measured], device: str) -> Sheet:
    """A row for each model and batch size."""
    names = list(found[0].rates)
    rows = [
        [
            "" if index and found[index - 1].model == one.model else one.model,
            str(one.rows),
            *(_cell(one, name) for name in names),
        ]
        for index, one in enumerate(found)
    ]
    return Sheet(f"Rows a second on {device}", ("model", "rows", *names), rows, CAPTION)


def _cell(one: Measured, way: str) -> str:
    rate = f"{Spread.of(one.rates[way]).median:,.0f}"
    if way == RAW:
        return rate
    share = one.share(way)
    return f"{rate} ({share.median:.0%}, {share.least:.0%} to {share.most:.0%})"


def _told(one: Measured) -> str:
    return ", ".join(f"{way} {_cell(one, way)}" for way in one.rates)


def executed_on(gpus: Gpus) -> str:
    """The GPU in words; "the CPU" where there is none."""
    if not gpus.ids:
        return "the CPU"
    try:
        nvml = Nvml()
        names = ", ".join(gpu.name for gpu in nvml.gpus())
        return f"GPU {gpus.ids[0]} of {names}; driver {nvml.driver}"
    except NoNvml as error:
        return f"GPU {gpus.ids[0]} ({error})"


def save(found: Sequence[Measured], facts: Mapping[str, Any], device: str, folder: Path) -> None:
    """gpu.json with every rate, gpu.md with the table."""
    folder.mkdir(parents=True, exist_ok=True)
    results = [{"model": one.model, "rows": one.rows, "rates": one.rates} for one in found]
    (folder / "gpu.json").write_text(json.dumps({**facts, "results": results}, indent=1) + "\n")
    told = {key: value for key, value in facts.items() if key != "versions"}
    listed = "\n".join(f"- {key}: {value}" for key, value in told.items())
    text = ("# What of a GPU's throughput reaches a client\n", listed, "")
    (folder / "gpu.md").write_text("\n".join((*text, sheet(found, device).markdown())))


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m bench.gpu",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--device", type=Wish.of, default=Wish(), help="as of penstock serve")
    parser.add_argument("--repository", type=Path, default=Path("model_repository"))
    parser.add_argument("--models", nargs="+", default=list(MODELS))
    parser.add_argument("--batches", type=int, nargs="+", default=list(BATCHES))
    parser.add_argument("--ways", choices=WAYS, nargs="+", default=list(WAYS))
    parser.add_argument("--tokens", type=int, default=128, help="of each text")
    parser.add_argument("--clients", type=int, default=4, help="that ask at a time")
    parser.add_argument("--seconds", type=float, default=3.0, help="of each window")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--save", action="store_true", help="write results/gpu.json and gpu.md")
    return parser.parse_args(given)


def main(given: Sequence[str] | None = None) -> None:
    asked = arguments(given)
    console = Console(highlight=False, width=None if sys.stdout.isatty() else WIDTH)
    try:
        gpus = find_gpus(asked.device)
        if asked.save and not gpus.ids:
            raise SystemExit(f"there is no GPU whose figures could be kept: {gpus.missing}")
        device = executed_on(gpus)
        options = {
            name: getattr(asked, name) for name in ("tokens", "clients", "seconds", "rounds")
        }
        facts = {**provenance(), "device": device, "--device": str(asked.device), **options}
        console.print(f"on {device}, {facts['hardware']}")
        found = measure(asked, gpus, console)
    except (Unavailable, LoadFailed) as error:
        raise SystemExit(str(error)) from error
    console.print(sheet(found, device).drawn())
    if asked.save:
        save(found, facts, device, RESULTS)


if __name__ == "__main__":
    main()
