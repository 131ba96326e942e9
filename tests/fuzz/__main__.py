"""`python -m tests.fuzz`: run the decoders over mutated inputs, for as long as one likes."""

import hashlib
import resource
import sys
from pathlib import Path

import click

from tests.fuzz.fuzzer import Crash, Fuzzer, Progress, refusal
from tests.fuzz.record import Record
from tests.fuzz.targets import TARGETS

# An input of some kilobytes that needs more than this is a way to bring a server down.
_MEMORY_BYTES = 4 * 1024**3


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("targets", nargs=-1, type=click.Choice(sorted(TARGETS)))
@click.option("--executions", default=1_000_000, show_default=True, help="For each target.")
@click.option("--seconds", default=3600.0, show_default=True, help="At most, for each target.")
@click.option("--seed", default=0, show_default=True, help="The same seed, the same inputs.")
@click.option("--rounds", default=1, show_default=True, help="Each with the next seed.")
@click.option(
    "--record",
    type=click.Path(dir_okay=False, path_type=Path),
    help="A JSON file that each round is added to; the seeds go on from those it has.",
)
@click.option(
    "--crashes",
    default="crashes",
    show_default=True,
    type=click.Path(file_okay=False, path_type=Path),
    help="The folder for inputs that must not do what they do; made when there is one.",
)
@click.option(
    "--replay",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Decode this one input by the one target that is named.",
)
def main(
    targets: tuple[str, ...],
    executions: int,
    seconds: float,
    seed: int,
    rounds: int,
    record: Path | None,
    crashes: Path,
    replay: Path | None,
) -> None:
    """Run TARGETS, by default all, over mutated inputs; exit code 1 if one crashes or hangs."""
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    if replay is not None:
        [target] = targets
        click.echo(refusal(TARGETS[target], replay.read_bytes()) or "accepted")
        return
    kept = Record(record) if record else None
    seed += kept.rounds if kept else 0
    found = 0
    for each in range(seed, seed + rounds):
        finished = [_run(name, each, executions, seconds, crashes) for name in targets or TARGETS]
        found += sum(len(progress.crashes) for progress in finished)
        if kept:
            kept.add(each, finished)
    sys.exit(1 if found else 0)


def _run(name: str, seed: int, executions: int, seconds: float, crashes: Path) -> Progress:
    fuzzer = Fuzzer(TARGETS[name], seed)
    for progress in fuzzer.run(executions, seconds):
        click.echo(f"\r{progress}", nl=False)
    click.echo()
    for crash in fuzzer.progress.crashes:
        _save(crash, crashes, name)
    return fuzzer.progress


def _save(crash: Crash, folder: Path, target: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{target}-{hashlib.sha256(crash.content).hexdigest()[:16]}"
    path.write_bytes(crash.content)
    click.echo(f"{path}: python -m tests.fuzz {target} --replay {path}\n{crash.report}")


if __name__ == "__main__":
    main()
