"""A few thousand mutated inputs for every decoder; `python -m tests.fuzz` runs millions."""

import json
import signal
from pathlib import Path

import pytest

from serving.errors import Internal, InvalidArgument, LoadFailed
from tests.fuzz.fuzzer import Fuzzer, Progress, Target
from tests.fuzz.record import Record
from tests.fuzz.targets import TARGETS

# So many that each target takes a fraction of a second.
EXECUTIONS = {"config": 200, "http": 500, "http2": 500, "proto": 1000, "image": 1000}


def run(target: Target, executions: int, **options: float) -> Progress:
    fuzzer = Fuzzer(target, seed=0, **options)
    *_, last = fuzzer.run(executions)
    return last


@pytest.mark.parametrize("name", TARGETS)
def test_every_seed_is_accepted(name: str) -> None:
    for seed in TARGETS[name].seeds:
        TARGETS[name].decode(seed)


@pytest.mark.parametrize("name", TARGETS)
def test_no_input_crashes_a_decoder(name: str) -> None:
    executions = EXECUTIONS.get(name, 2000)

    progress = run(TARGETS[name], executions)

    assert [crash.report for crash in progress.crashes] == []
    assert progress.executions == executions
    # Neither accepted all the same nor refused at the first check.
    assert 0 < progress.accepted < executions
    assert progress.kinds >= 2


def planted(content: bytes) -> None:
    """Refuses what does not begin with a brace, crashes on two of them."""
    if not content.startswith(b"{"):
        raise InvalidArgument("no brace")
    if content.startswith(b"{{"):
        raise KeyError("two")


def test_a_crash_is_found_once_with_the_input_that_makes_it() -> None:
    progress = run(Target("planted", planted, [b"{}"], [b"{"]), 3000)

    [crash] = progress.crashes
    assert crash.content.startswith(b"{{")
    assert "KeyError: 'two'" in crash.report


def hanging(content: bytes) -> None:
    while content.startswith(b"{{"):
        pass


def test_a_hang_is_found() -> None:
    before = signal.getsignal(signal.SIGVTALRM)

    progress = run(Target("hanging", hanging, [b"{}"], [b"{"]), 60, hang_seconds=0.01)

    assert progress.crashes
    assert all("Hang" in crash.report for crash in progress.crashes)
    assert signal.getsignal(signal.SIGVTALRM) is before


@pytest.mark.parametrize(
    ("error", "is_crash"),
    [
        (InvalidArgument("x"), False),
        (LoadFailed("x"), False),
        (Internal("x"), True),
        (MemoryError("x"), True),
    ],
)
def test_a_fault_of_the_server_is_told_from_a_refusal(error: Exception, is_crash: bool) -> None:
    def decode(content: bytes) -> None:
        raise error

    progress = run(Target("raising", decode, [b"x"], [b"y"]), 5)

    assert bool(progress.crashes) is is_crash


def test_the_same_seed_makes_the_same_inputs() -> None:
    def inputs(seed: int) -> list[bytes]:
        seen: list[bytes] = []
        for _ in Fuzzer(Target("seen", seen.append, [b"{}", b"12"], [b"a"]), seed).run(50):
            pass
        return seen

    assert inputs(1) == inputs(1)
    assert inputs(1) != inputs(2)


def test_a_run_ends_when_its_time_is_up() -> None:
    fuzzer = Fuzzer(Target("quick", len, [b"x"], [b"y"]), 0)

    *_, last = fuzzer.run(10**9, seconds=0.01)

    assert 0 < last.executions < 10**9


def test_what_is_accepted_is_told_by_the_lines_that_it_reaches() -> None:
    progress = run(TARGETS["json"], 2000)

    assert progress.lines > 100


def test_a_record_adds_up_what_its_rounds_have_found(tmp_path: Path) -> None:
    path = tmp_path / "new" / "fuzz.json"
    first, second = run(TARGETS["raw"], 300), run(Target("planted", planted, [b"{}"], [b"{"]), 3000)
    Record(path).add(0, [first, second])
    record = Record(path)
    assert record.rounds == 1

    record.add(record.rounds, [first])

    document = json.loads(path.read_text())
    assert document["executions"] == 3600
    assert document["crashes"] == 1
    assert document["targets"]["raw"]["executions"] == 600
    assert document["targets"]["raw"]["accepted"] == 2 * first.accepted
    assert document["targets"]["planted"]["crashes"] == 1
    assert [(made["seed"], made["executions"]) for made in document["rounds"]] == [
        (0, 3300),
        (1, 300),
    ]
