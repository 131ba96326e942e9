"""How many tokens a second a model of texts writes for many streams at a time, against one.

    python -m bench.generation --streams 1 16 --rounds 5 --save generation

Starts a server on a copy of the repository. In each round every number of streams has its turn: as
many requests at once over generate_stream, each for so many tokens. The tokens over the time until
the last one is there are the throughput; tokens per second of the server's processor time say the
same on a machine that others use. Ratios are taken round by round.
"""

import argparse
import asyncio
import json
import shutil
import statistics
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import httpx
from rich.console import Console
from rich.table import Table

from bench.machine import cpu_seconds
from bench.peers import ours
from bench.peers.base import Running
from bench.record import RESULTS, provenance
from bench.report import deviating

PROMPT: Final = "ROMEO:\n"


@dataclass(frozen=True, slots=True)
class Turn:
    """So many streams at once: the tokens of all, seconds of the clock and of the server's
    processor, and how long each stream waited for its first piece."""

    tokens: int
    seconds: float
    cpu_seconds: float
    first: list[float]

    @property
    def rate(self) -> float:
        """Tokens per second."""
        return self.tokens / self.seconds

    @property
    def cpu_rate(self) -> float:
        """Tokens per second of the server's processor time."""
        return self.tokens / self.cpu_seconds


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.generation",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--repository", type=Path, default=Path("model_repository"))
    parser.add_argument("--model", default="shakespeare-gpt")
    parser.add_argument("--streams", type=int, nargs="+", default=[1, 16], help="the first is one")
    parser.add_argument("--tokens", type=int, default=400, help="of each stream")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--save", metavar="NAME", help="leave results/NAME.json")
    return parser.parse_args(given)


async def one(
    client: httpx.AsyncClient, options: argparse.Namespace, seed: int
) -> tuple[int, float]:
    """One stream: its tokens, and the seconds until the first piece of its text."""
    request = {"text_input": PROMPT, "max_tokens": options.tokens, "seed": seed}
    path = f"/v2/models/{options.model}/generate_stream"
    begin, first, last = time.perf_counter(), 0.0, b""
    async with client.stream("POST", path, json=request) as answer:
        answer.raise_for_status()
        async for chunk in answer.aiter_raw():
            first = first or time.perf_counter() - begin
            last = (last + chunk)[-2000:]  # in which the last event is whole
    event = json.loads(last.rstrip().rpartition(b"data: ")[2])
    return event["completion_tokens"], first


async def turn(running: Running, options: argparse.Namespace, streams: int) -> Turn:
    """As many streams at once."""
    limits = httpx.Limits(max_connections=streams)
    async with httpx.AsyncClient(
        base_url=f"http://{running.http}", timeout=600, limits=limits
    ) as client:
        (await client.get("/v2/health/ready")).raise_for_status()
        begin, spent = time.perf_counter(), cpu_seconds(running.pid)
        found = await asyncio.gather(*(one(client, options, seed) for seed in range(streams)))
        seconds = time.perf_counter() - begin
    return Turn(
        sum(tokens for tokens, _ in found),
        seconds,
        cpu_seconds(running.pid) - spent,
        [first for _, first in found],
    )


def measure(options: argparse.Namespace, repository: Path) -> dict[int, list[Turn]]:
    """The turns of each number of streams, a round behind the other; the first is not counted."""
    turns: dict[int, list[Turn]] = {streams: [] for streams in options.streams}
    with ours.serve(repository) as running:
        for number in range(1 + options.rounds):
            for streams, found in turns.items():
                took = asyncio.run(turn(running, options, streams))
                if number:
                    found.append(took)
    return turns


def report(turns: dict[int, list[Turn]]) -> Table:
    """A row for each number of streams; ratios are to the first of them."""
    table = Table("streams", "tokens/s", "times one", "per CPU second", "times one", "first piece")
    base = next(iter(turns.values()))
    for streams, found in turns.items():
        rates = [each.rate for each in found]
        per_cpu = [each.cpu_rate for each in found]
        waited = [first for each in found for first in each.first]
        table.add_row(
            str(streams),
            deviating(rates, 0),
            deviating([each.rate / one.rate for each, one in zip(found, base, strict=True)], 2),
            deviating(per_cpu, 0),
            deviating(
                [each.cpu_rate / one.cpu_rate for each, one in zip(found, base, strict=True)], 2
            ),
            f"{1000 * statistics.median(waited):.0f} ms",
        )
    return table


def save(turns: dict[int, list[Turn]], options: argparse.Namespace, folder: Path = RESULTS) -> Path:
    """Write NAME.json; gives its path."""
    asked: dict[str, Any] = {key: getattr(options, key) for key in ("model", "tokens", "rounds")}
    found = {
        str(streams): [asdict(each) for each in each_turn] for streams, each_turn in turns.items()
    }
    path = folder / f"{options.save}.json"
    path.write_text(
        json.dumps({**provenance(), "options": asked, "streams": found}, indent=1) + "\n"
    )
    return path


def main() -> None:
    """Measure, print, and keep what is to be kept."""
    options = arguments()
    with TemporaryDirectory(prefix="bench-generation-") as scratch:
        repository = Path(scratch) / "models"
        shutil.copytree(options.repository / options.model, repository / options.model)
        turns = measure(options, repository)
    console = Console()
    console.print(report(turns))
    if options.save:
        console.print(f"saved {save(turns, options)}")


if __name__ == "__main__":
    main()
