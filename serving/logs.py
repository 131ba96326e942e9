"""How the log is written and what goes into it, which clients may change while the server runs.

The settings bear Triton's names:

    log_verbose_level   1 and above: a line for each request, and what only developers care for
    log_info, log_warning, log_error    whether lines of that level are written
    log_format          default: lines for people; ISO8601: the same with the time in UTC as ISO
                        8601 has it; json: an object a line, for machines
    log_file            where it goes, fixed at start; empty: standard error
"""

import contextlib
import logging
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final, TypeAlias

from pythonjsonlogger.json import JsonFormatter

from serving.errors import InvalidArgument, Malformed, ServingError, Unsupported
from serving.settings import LogFormat, Settings

Value: TypeAlias = bool | int | str

# What tells of single requests: written where it is verbose, at whatever level.
_ACCESS: Final = "penstock.access"
_FORMATS: Final = [kind.value for kind in LogFormat]
_MAX_LEVEL: Final = 2**32 - 1


_ESCAPED: Final[dict[int, str]] = {
    code: repr(chr(code))[1:-1] for code in (*range(32), *range(127, 160), 0x2028, 0x2029)
} | {ord("\n"): "\n    "}


class Logs:
    """The log of one server."""

    def __init__(self, settings: Settings) -> None:
        self._values: dict[str, Value] = {
            "log_file": settings.log_file,
            "log_info": settings.log_info,
            "log_warning": settings.log_warning,
            "log_error": settings.log_error,
            "log_verbose_level": settings.log_verbose,
            "log_format": settings.log_format.value,
        }
        self._handler = _handler(settings.log_file)
        self._handler.addFilter(self._passes)
        self._apply()

    def install(self) -> None:
        """Send what Penstock, and the servers under it, have to say to this log."""
        root = logging.getLogger()
        root.handlers[:] = [self._handler]
        root.setLevel(logging.WARNING)
        # uvicorn tells of every start and stop; what matters of that, our own server says.
        logging.getLogger("uvicorn.error").setLevel(logging.WARNING)

    @property
    def settings(self) -> Mapping[str, Value]:
        """The settings in force, by their names."""
        return self._values

    def update(self, changes: Mapping[str, Value]) -> None:
        """Change settings, from the next line on; all of them or, where one is refused, none.

        Raises InvalidArgument for an unknown name or a value that does not fit, Unsupported for
        the file.
        """
        for name, value in changes.items():
            _check(name, value)
        self._values |= changes
        self._apply()

    def _apply(self) -> None:
        self._handler.setFormatter(_formatter(LogFormat(self._values["log_format"])))
        # Lines that nobody reads are not even made.
        verbose = bool(self._values["log_verbose_level"])
        logging.getLogger("penstock").setLevel(logging.DEBUG if verbose else logging.INFO)
        logging.getLogger(_ACCESS).setLevel(logging.INFO if verbose else logging.WARNING)

    def _passes(self, record: logging.LogRecord) -> bool:
        if record.levelno >= logging.ERROR:
            return bool(self._values["log_error"])
        if record.levelno >= logging.WARNING:
            return bool(self._values["log_warning"])
        if record.levelno < logging.INFO or record.name == _ACCESS:
            return bool(self._values["log_verbose_level"])
        return bool(self._values["log_info"])


def _check(name: str, value: Value) -> None:
    if name == "log_file":
        raise Unsupported("log file location can not be updated through network protocol")
    if name in ("log_info", "log_warning", "log_error"):
        fits, expected = type(value) is bool, "a boolean"
    elif name == "log_verbose_level":
        fits = type(value) is int and 0 <= value <= _MAX_LEVEL
        expected = "an unsigned 32-bit integer"
    elif name == "log_format":
        fits, expected = value in _FORMATS, f"one of {', '.join(_FORMATS)}"
    else:
        known = "log_verbose_level, log_info, log_warning, log_error, log_format"
        raise InvalidArgument(f"{name}: no log setting; expected {known}")
    if not fits:
        raise Malformed(f"{name}: expected {expected}, got {value!r}")


class _Lines(logging.Formatter):
    """Lines for people: what a client sent makes none that looks like one of ours, nor colours."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802  # logging's name
        """The record in one line, or in further ones that are indented."""
        return super().formatMessage(record).translate(_ESCAPED)


class _Objects(JsonFormatter):
    """Lines for machines; their times are as RFC 3339 has them, which is what collectors read."""

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802  # logging's name
        """Such as 2026-01-31T09:05:07.042+00:00."""
        return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")


class _File(logging.FileHandler):
    """A file that a full disk closes to lines; the server goes on, and says so once."""

    _is_told = False

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: N802  # logging's name
        """Called in place of raising what writing `record` raised."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            super().handleError(record)
        elif not self._is_told:
            self._is_told = True
            with contextlib.suppress(OSError):
                print(
                    f"cannot write the log to {self.baseFilename}: {error.strerror}; lines of it "
                    "are missing",
                    file=sys.stderr,
                )


def _handler(file: str) -> logging.Handler:
    if not file:
        return logging.StreamHandler(sys.stderr)
    try:
        return _File(file, encoding="utf-8")
    except OSError as error:
        raise ServingError(f"cannot write the log to {file}: {error.strerror}") from error


def _formatter(kind: LogFormat) -> logging.Formatter:
    if kind is LogFormat.JSON:
        return _Objects(
            "{asctime}{levelname}{name}{message}",
            style="{",
            rename_fields={"asctime": "time", "levelname": "level", "name": "logger"},
        )
    if kind is LogFormat.ISO8601:
        formatter = _Lines(
            "{asctime}.{msecs:03.0f}Z {levelname:<7} {name}: {message}",
            style="{",
            datefmt="%Y-%m-%dT%H:%M:%S",
        )
        formatter.converter = time.gmtime
        return formatter
    return _Lines("{asctime} {levelname:<7} {name}: {message}", style="{")
