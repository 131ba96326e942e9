"""How `penstock validate` reports: verdicts, lines, JSON, progress and exit codes."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from pydantic import BaseModel, ConfigDict

from serving.validate.command import validate
from tests.e2e.server import REPOSITORY
from tests.serving.validate.repositories import append, content, good


def run(*arguments: object, colour: bool = False) -> Result:
    options = ["--passport-policy=off", *(str(argument) for argument in arguments)]
    return CliRunner().invoke(validate, options, color=colour)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A good model, one with a warning and one with two faults."""
    good(tmp_path, "good")
    content("labels.txt", b"cat\n")(good(tmp_path, "unlabelled"))
    broken = good(tmp_path, "broken")
    append("optimization { priority: PRIORITY_MAX }\n")(broken)
    (broken / "1/model.onnx").write_bytes(b"")
    return tmp_path


def test_each_model_has_its_verdict_and_below_it_what_is_wrong(repository: Path) -> None:
    result = run(repository)

    broken, first, place, *rest = result.stdout.splitlines()
    assert broken == "[1/3] broken      2 faults  version 1"
    assert first == f"      fault    {repository}/broken/config.pbtxt:16:16"
    assert place.startswith("               'optimization.priority' is not honoured by")
    assert "[2/3] good        good  version 1" in rest
    assert "[3/3] unlabelled  1 warning  version 1" in rest
    assert f"      warning  {repository}/unlabelled/labels.txt" in rest


def test_the_last_line_sums_up(repository: Path) -> None:
    *_, last = run(repository).stdout.splitlines()

    assert last.startswith("3 models checked in ")
    assert last.endswith(" s: 1 good, 1 with warnings, 1 with faults; 2 faults, 1 warning")


def test_no_line_is_wider_than_a_terminal_has_to_be(repository: Path) -> None:
    prose = [line for line in run(repository).stdout.splitlines() if str(repository) not in line]

    assert max(map(len, prose)) <= 100


def test_places_below_the_working_directory_are_short(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(repository.parent)

    assert f"fault    {repository.name}/broken/config.pbtxt:16:16\n" in run(repository.name).stdout


def test_colours_are_for_terminals_only(repository: Path) -> None:
    assert "\x1b[" not in run(repository).stdout
    assert "\x1b[31m\x1b[1m2 faults\x1b[0m" in run(repository, colour=True).stdout


class FindingSchema(BaseModel):
    """A finding, with nothing beside its fields."""

    model_config = ConfigDict(extra="forbid", strict=True)

    severity: str
    file: str
    line: int | None
    column: int | None
    message: str


class ModelSchema(BaseModel):
    """A model's part of the report."""

    model_config = ConfigDict(extra="forbid", strict=True)

    name: str
    verdict: str
    versions: list[int]
    seconds: float
    findings: list[FindingSchema]


class ReportSchema(BaseModel):
    """The whole document."""

    model_config = ConfigDict(extra="forbid", strict=True)

    schema_: str
    verdict: str
    models_checked: int
    faults: int
    warnings: int
    findings: list[FindingSchema]
    models: list[ModelSchema]


def test_json_is_one_document_of_a_stated_schema(repository: Path) -> None:
    document = json.loads(run(repository, "--format", "json").stdout)
    document["schema_"] = document.pop("schema")

    report = ReportSchema.model_validate(document)

    assert report.schema_ == "penstock.validation/1"
    assert (report.verdict, report.models_checked) == ("faults", 3)
    assert (report.faults, report.warnings, report.findings) == (2, 1, [])
    assert [(model.name, model.verdict) for model in report.models] == [
        ("broken", "faults"),
        ("good", "good"),
        ("unlabelled", "warnings"),
    ]
    priority, empty = report.models[0].findings
    assert (priority.line, priority.column) == (16, 16)
    assert (empty.line, empty.column) == (None, None)
    assert empty.file == f"{repository}/broken/1/model.onnx"
    assert empty.severity == "fault"


def test_progress_goes_beside_json_model_by_model(repository: Path) -> None:
    assert run(repository, "--format", "json").stderr.splitlines() == [
        "[1/3] broken: 2 faults",
        "[2/3] good: good",
        "[3/3] unlabelled: 1 warning",
    ]


@pytest.mark.parametrize(
    ("models", "options", "code"),
    [
        (["good"], [], 0),
        (["good"], ["--strict"], 0),
        (["good", "unlabelled"], [], 0),
        (["good", "unlabelled"], ["--strict"], 1),
        (["good", "broken"], [], 1),
    ],
)
def test_the_exit_code_is_that_of_the_worst_finding(
    repository: Path, models: list[str], options: list[str], code: int
) -> None:
    for name in {"good", "unlabelled", "broken"} - set(models):
        (repository / name).rename(repository / f".{name}")

    assert run(repository, *options).exit_code == code


@pytest.mark.parametrize(
    "arguments", [[], ["/no/such/folder"], ["REPOSITORY", "--format", "xml"], ["--nonsense"]]
)
def test_wrong_usage_has_an_exit_code_of_its_own(repository: Path, arguments: list[str]) -> None:
    result = run(*(repository if one == "REPOSITORY" else one for one in arguments))

    assert result.exit_code == 2
    assert result.stderr.startswith("Usage: ")


def test_help_states_every_default() -> None:
    said = run("--help").stdout

    for default in ("[default: no]", "[default: run]", "[default: text]", "default: warn]"):
        assert default in " ".join(said.split())


def test_nothing_is_wrong_with_our_own_repository() -> None:
    result = CliRunner().invoke(validate, [str(REPOSITORY), "--strict"])

    assert (result.exit_code, result.stderr) == (0, "")
    assert "warning" not in result.stdout
