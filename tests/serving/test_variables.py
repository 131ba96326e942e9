"""A variable that is mistyped does not go unseen."""

import re
from pathlib import Path
from typing import Final

import pytest
from click.testing import CliRunner

import penstock
from serving.variables import OTHERS, unread

ROOT: Final = Path(__file__).parents[2]


def test_a_command_warns_once_of_a_mistyped_variable_and_goes_on() -> None:
    variables = {"PENSTOCK_HTPP_PORT": "80", "PENSTOCK_GRPC_PORT": "0"}
    told = CliRunner().invoke(penstock.main, ["serve", "--help"], env=variables)
    assert told.exit_code == 0
    assert told.stderr == (
        "Warning: the variable PENSTOCK_HTPP_PORT is set, and nothing reads it; "
        "did you mean PENSTOCK_HTTP_PORT?\n"
    )


def test_where_nothing_is_like_it_nothing_is_suggested() -> None:
    [told] = unread({"PENSTOCK_XYZZY": "1"})
    assert told == "the variable PENSTOCK_XYZZY is set, and nothing reads it"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("PENSTOCK_SERVICE_HOST", "10.0.0.1"),
        ("PENSTOCK_GRPC_SERVICE_PORT_GRPC", "8001"),
        ("PENSTOCK_PORT", "tcp://10.0.0.1:8000"),
        ("PENSTOCK_PORT_8000_TCP_ADDR", "10.0.0.1"),
        ("HTPP_PORT", "80"),
    ],
)
def test_what_is_not_meant_as_a_setting_is_left_alone(name: str, value: str) -> None:
    assert not list(unread({name: value}))


def test_what_the_rest_of_the_project_reads_is_known() -> None:
    read = {
        name
        for package in ("training", "export", "bench", "deploy")
        for path in (ROOT / package).rglob("*.py")
        for name in re.findall(r'"(PENSTOCK_[A-Z_]+)"', path.read_text(encoding="utf-8"))
    }
    assert not list(unread(dict.fromkeys(read, "")))
    assert read >= {f"PENSTOCK_{name}" for name in OTHERS}
