"""How the log is written: lines for people, or one JSON object a line for machines."""

import logging
import sys

from pythonjsonlogger.json import JsonFormatter

from serving.settings import LogFormat, Settings


def configure(settings: Settings) -> None:
    """Send the logs of Penstock and of the servers under it to standard error."""
    handler = logging.StreamHandler(sys.stderr)
    if settings.log_format is LogFormat.JSON:
        handler.setFormatter(
            JsonFormatter(
                "{asctime}{levelname}{name}{message}",
                style="{",
                rename_fields={"asctime": "time", "levelname": "level", "name": "logger"},
                datefmt="%Y-%m-%dT%H:%M:%S%z",
            )
        )
    else:
        handler.setFormatter(
            logging.Formatter("{asctime} {levelname:<7} {name}: {message}", style="{")
        )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("penstock").setLevel(logging.DEBUG if settings.log_verbose else logging.INFO)
    logging.getLogger("penstock.access").setLevel(
        logging.INFO if settings.log_verbose else logging.WARNING
    )
    # uvicorn tells of every start and stop; what matters of that, our own server says.
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
