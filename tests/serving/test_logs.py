"""What is written to the log, and how, follows the settings from one line to the next."""

import json
import logging
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from serving.errors import InvalidArgument, ServingError, Unsupported
from serving.logs import Logs
from serving.settings import LogFormat, Settings

OWN = logging.getLogger("penstock.test")
ACCESS = logging.getLogger("penstock.access")
OTHER = logging.getLogger("another.library")


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    """The logging module is one for all tests."""
    loggers = [logging.getLogger(name) for name in ("", "penstock", "penstock.access")]
    before = [(logger.level, logger.handlers[:]) for logger in loggers]
    yield
    for logger, (level, handlers) in zip(loggers, before, strict=True):
        for handler in set(logger.handlers) - set(handlers):
            with suppress(OSError):  # of a full disk
                handler.close()
        logger.setLevel(level)
        logger.handlers[:] = handlers


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "log"


def installed(file: Path, **settings: Any) -> Logs:
    logs = Logs(Settings(log_file=str(file), **settings))
    logs.install()
    return logs


def written(file: Path) -> list[str]:
    """The messages in the log after one of each kind."""
    OWN.debug("debug")
    OWN.info("info")
    OWN.warning("warning")
    OWN.error("error")
    ACCESS.info("request")
    OTHER.info("chatter")
    OTHER.warning("concern")
    lines = file.read_text().splitlines()
    file.write_text("")
    return [line.rpartition(": ")[2] for line in lines]


def test_what_matters_is_written_by_default(file: Path) -> None:
    installed(file)
    assert written(file) == ["info", "warning", "error", "concern"]


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"log_info": False}, ["warning", "error", "concern"]),
        ({"log_warning": False}, ["info", "error"]),
        ({"log_error": False}, ["info", "warning", "concern"]),
        ({"log_verbose_level": 1}, ["debug", "info", "warning", "error", "request", "concern"]),
        ({"log_verbose_level": 2, "log_info": False}, ["debug", "warning", "error", "request"]),
    ],
)
def test_each_level_is_written_as_long_as_it_is_asked_for(
    file: Path, changes: dict[str, Any], expected: list[str]
) -> None:
    logs = installed(file)
    before = {name: logs.settings[name] for name in changes}
    logs.update(changes)
    assert [message for message in written(file) if message in expected] == expected
    logs.update(before)
    assert written(file) == ["info", "warning", "error", "concern"]


def test_what_is_not_asked_for_is_not_written(file: Path) -> None:
    logs = installed(file)
    logs.update({"log_info": False, "log_warning": False, "log_error": False})
    assert written(file) == []


def test_the_flags_are_where_it_starts(file: Path) -> None:
    logs = installed(
        file, log_verbose=1, log_info=False, log_error=False, log_format=LogFormat.ISO8601
    )
    assert logs.settings == {
        "log_file": str(file),
        "log_info": False,
        "log_warning": True,
        "log_error": False,
        "log_verbose_level": 1,
        "log_format": "ISO8601",
    }
    assert written(file) == ["debug", "warning", "request", "concern"]


def line(file: Path, format: str) -> str:
    logs = installed(file)
    logs.update({"log_format": format})
    OWN.warning("careful")
    return file.read_text()


def test_a_line_is_for_people_by_default(file: Path) -> None:
    expected = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} WARNING penstock.test: careful\n"
    assert re.fullmatch(expected, line(file, "default"))


@pytest.mark.parametrize("format", ["default", "ISO8601"])
def test_what_clients_sent_makes_no_lines_of_its_own_and_no_colours(
    file: Path, format: str
) -> None:
    installed(file).update({"log_format": format})
    OWN.warning("failed to load '%s': %s", "a", "b\n2026 ERROR forged\r\x1b[31m\u2028\x00")
    first, second = file.read_text().split("\n")[:-1]
    assert first.endswith("failed to load 'a': b")
    assert second == "    2026 ERROR forged\\r\\x1b[31m\\u2028\\x00"


def test_a_line_may_tell_the_time_in_utc(file: Path) -> None:
    expected = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z WARNING penstock.test: careful\n"
    assert re.fullmatch(expected, line(file, "ISO8601"))


def test_a_line_may_be_an_object(file: Path) -> None:
    document = json.loads(line(file, "json"))
    assert (document["level"], document["logger"]) == ("WARNING", "penstock.test")
    assert document["message"] == "careful"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"log_info": 1}, "log_info: expected a boolean, got 1"),
        ({"log_warning": "no"}, "log_warning: expected a boolean, got 'no'"),
        ({"log_error": 0}, "log_error: expected a boolean, got 0"),
        ({"log_verbose_level": True}, "log_verbose_level: expected an unsigned 32-bit integer"),
        ({"log_verbose_level": -1}, "log_verbose_level: expected an unsigned 32-bit integer"),
        ({"log_verbose_level": 2**32}, "log_verbose_level: expected an unsigned 32-bit integer"),
        ({"log_format": "xml"}, "log_format: expected one of default, ISO8601, json, got 'xml'"),
        ({"log_format": "iso8601"}, "log_format: expected one of"),
        ({"log_format": 5}, "log_format: expected one of"),
        ({"log_warnings": True}, "log_warnings: no log setting; expected log_verbose_level, "),
    ],
)
def test_what_cannot_be_is_refused_and_nothing_changes(
    file: Path, changes: dict[str, Any], expected: str
) -> None:
    logs = installed(file)
    before = dict(logs.settings)
    with pytest.raises(InvalidArgument, match=f"^{expected}"):
        logs.update({"log_info": False, **changes})
    assert logs.settings == before
    assert written(file) == ["info", "warning", "error", "concern"]


def test_the_file_is_not_the_clients_to_choose(file: Path) -> None:
    logs = installed(file)
    with pytest.raises(Unsupported, match="log file location can not be updated"):
        logs.update({"log_file": "/tmp/other"})


def test_a_file_that_cannot_be_written_is_an_error_that_names_it(tmp_path: Path) -> None:
    with pytest.raises(ServingError, match=f"cannot write the log to {tmp_path}: Is a directory"):
        Logs(Settings(log_file=str(tmp_path)))


def test_a_full_disk_is_told_of_once_and_stops_nobody(capsys: pytest.CaptureFixture[str]) -> None:
    installed(Path("/dev/full"))
    OWN.warning("first")
    OWN.warning("second")

    assert capsys.readouterr().err == (
        "cannot write the log to /dev/full: No space left on device; lines of it are missing\n"
    )
