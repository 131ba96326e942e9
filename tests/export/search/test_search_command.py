"""`penstock search`, as a person at the terminal meets it."""

import csv
import errno
import fcntl
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from export.command import export
from export.errors import ConversionFailed
from export.search import latency
from export.search.command import search
from export.search.report import Report
from export.search.run import PICTURE, TABLE, TRIALS, WINNER
from export.search.study import Outcome
from training import checkpoint
from training.checkpoint import load
from training.state import SUFFIX

ARGUMENTS = ("digits-mlp", "--epochs", "1", "--device", "cpu")


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(search, [str(argument) for argument in arguments])


def kill(*_: object) -> None:
    raise Killed


class Killed(BaseException):
    """What no code expects."""


def test_a_search_that_was_killed_goes_on_and_its_winner_exports_like_any_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "found"
    arguments = (*ARGUMENTS, "--trials", "2", "--output", str(folder))
    with monkeypatch.context() as patch:
        patch.setattr(Report, "ends", kill)
        with pytest.raises(Killed):
            run(*arguments)
    assert [path.name for path in folder.iterdir()] == [TRIALS]

    result = run(*arguments)
    assert result.exit_code == 0, result.output
    assert "going on behind trial 1" in result.output
    assert {path.name for path in folder.iterdir()} == {TRIALS, TABLE, PICTURE, WINNER}
    assert (folder / PICTURE).read_bytes().startswith(b"\x89PNG\r\n")
    rows = list(csv.DictReader((folder / TABLE).read_text().splitlines()))
    assert [row["trial"] for row in rows] == ["1", "2"]
    best = min(rows, key=lambda row: float(row["error"]))
    winner = load(folder / WINNER)
    assert winner.recipe == "digits-mlp"
    assert winner.architecture_config["hidden"] == int(best["hidden"])
    assert winner.config.optimizer == best["optimizer"]
    assert winner.dataset.name == "digits"

    exported = CliRunner().invoke(
        export, [str(folder / WINNER), "--repository", str(tmp_path / "repository")]
    )
    assert exported.exit_code == 0, exported.output
    assert (tmp_path / "repository" / "digits-mlp" / "1" / "passport.json").exists()


def test_a_winner_that_was_killed_gives_way_to_a_better_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = (*ARGUMENTS, "--output", tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save", kill)
        patch.setattr(latency, "measure", lambda *_: 1000.0)
        with pytest.raises(Killed):
            run(*arguments, "--trials", "1")
    unfinished = tmp_path / f"{WINNER}{SUFFIX}"
    assert unfinished.exists()

    monkeypatch.setattr(latency, "measure", lambda *_: 10.0)
    result = run(*arguments, "--trials", "2", "--max-latency", "500")
    assert result.exit_code == 0, result.output
    assert "trial 2:" in result.output
    assert load(tmp_path / WINNER).metrics["test_n"] == 355
    assert not unfinished.exists()


def test_a_network_that_cannot_be_exported_does_not_end_the_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> float:
        raise ConversionFailed("torch exported nothing")

    monkeypatch.setattr(latency, "measure", refuse)
    result = run(*ARGUMENTS, "--trials", "2", "--output", tmp_path)
    assert result.output.count("no export") == 2
    assert "Error: none of 2 networks answers: search longer" in result.output
    assert result.exit_code == 1


def test_a_second_search_in_a_folder_is_refused_and_the_first_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = (*ARGUMENTS, "--trials", "1", "--output", tmp_path)
    seconds = []

    def search_as_well(report: Report, outcome: Outcome) -> None:
        monkeypatch.undo()
        seconds.append(run(*arguments))
        report.ends(outcome)

    monkeypatch.setattr(Report, "ends", search_as_well)
    first = run(*arguments)

    (second,) = seconds
    assert (first.exit_code, second.exit_code) == (0, 1), second.output
    assert f"{tmp_path}: another process searches in it" in second.output


def test_a_recipe_without_a_space_is_a_usage_error() -> None:
    result = run("shakespeare-gpt")
    assert result.exit_code == 2
    assert "the architecture gpt has no space" in result.output


def test_a_folder_of_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").touch()
    result = run(*ARGUMENTS, "--output", tmp_path)
    assert result.exit_code == 1
    assert "holds thesis.tex and no search" in result.output
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize(
    ("option", "value"), [("--trials", "0"), ("--minutes", "0"), ("--max-latency", "-1")]
)
def test_a_budget_of_nothing_is_a_usage_error(option: str, value: str) -> None:
    assert run(*ARGUMENTS, option, value).exit_code == 2


def test_a_file_system_without_locks_keeps_nobody_from_searching(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*_: int) -> None:
        raise OSError(errno.ENOSYS, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", missing)
    result = run(*ARGUMENTS, "--trials", "1", "--output", tmp_path / "found")
    assert result.exit_code == 0, result.output


def test_a_table_that_cannot_be_written_is_told_in_a_sentence(tmp_path: Path) -> None:
    assert run(*ARGUMENTS, "--trials", "1", "--output", tmp_path).exit_code == 0
    (tmp_path / TABLE).unlink()
    (tmp_path / TABLE).mkdir()
    result = run(*ARGUMENTS, "--trials", "1", "--output", tmp_path)
    assert result.exit_code == 1
    assert f"{TABLE}: cannot be written (Is a directory)" in result.output
