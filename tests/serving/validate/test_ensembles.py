"""Ensembles are held against the models of their steps, whichever of them is checked first."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from serving.validate.command import validate
from tests.ensemble_repository import ENSEMBLES, MISCONFIGURED, REFUSED, build
from tests.serving.validate.repositories import append


def check(repository: Path) -> dict[str, list[dict[str, Any]]]:
    """The findings about each model."""
    options = ["--passport-policy=off", "--format=json"]
    report = json.loads(CliRunner().invoke(validate, [str(repository), *options]).stdout)
    return {model["name"]: model["findings"] for model in report["models"]}


@pytest.fixture(scope="module")
def findings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    """What is found in a repository of everything."""
    folder = tmp_path_factory.mktemp("ensembles")
    return check(build(folder, ENSEMBLES | REFUSED | MISCONFIGURED))


@pytest.mark.parametrize("name", ENSEMBLES)
def test_what_a_server_loads_is_found_good(
    findings: dict[str, list[dict[str, Any]]], name: str
) -> None:
    assert findings[name] == []


@pytest.mark.parametrize("name", [*REFUSED, *MISCONFIGURED])
def test_what_a_server_refuses_is_found_at_fault(
    findings: dict[str, list[dict[str, Any]]], name: str
) -> None:
    assert {finding["severity"] for finding in findings[name]} == {"fault"}
    for finding in findings[name]:
        assert finding["file"].endswith(f"/{name}/config.pbtxt")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("unknown_model", "contains models that are not available or ambiguous: nope"),
        ("unknown_version", "depends on 'scale' whose required version 7 is not loaded"),
        ("wrong_type", "inconsistent data type"),
        (
            "on_refused",
            "depends on 'wrong_shape' which has no loaded version: it has faults of",
        ),
        ("of_itself", "depends on 'of_itself' which has no loaded version: it is itself made of"),
        ("circle_b", "depends on 'circle_a' which has no loaded version: it is itself made of"),
        ("circle_a", "depends on 'circle_b' which has no loaded version: it has faults of its own"),
    ],
)
def test_what_is_wrong_with_an_ensemble_is_told_on_its_line(
    findings: dict[str, list[dict[str, Any]]], name: str, message: str
) -> None:
    finding, *_ = findings[name]

    assert message in finding["message"]
    assert finding["line"] > 1
    assert finding["column"] > 1


def test_a_fault_of_a_step_is_told_where_it_is_and_where_it_hurts(tmp_path: Path) -> None:
    build(tmp_path, {"chain": ENSEMBLES["chain"], "nested": ENSEMBLES["nested"]})
    append("max_batch: 1")(tmp_path / "plus")

    found = check(tmp_path)

    assert {name for name, told in found.items() if told} == {"plus", "chain", "nested"}
    assert "did you mean 'max_batch_size'" in found["plus"][0]["message"]
    assert "depends on 'plus' which has no loaded version" in found["chain"][0]["message"]
    assert "depends on 'chain' which has no loaded version" in found["nested"][0]["message"]
