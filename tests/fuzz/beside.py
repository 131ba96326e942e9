"""What stands around a server: a client, a repository, an ear for its faults."""

import asyncio
import atexit
import logging
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

_CONFIG: Final = """
backend: "identity" max_batch_size: 4
input [ { name: "a" data_type: TYPE_FP32 dims: 2 }, { name: "t" data_type: TYPE_STRING dims: 1 } ]
output [ { name: "y" data_type: TYPE_FP32 dims: 2 }, { name: "z" data_type: TYPE_STRING dims: 1 } ]
"""


def repository() -> Path:
    """A repository of one model `m`, which is removed as the interpreter ends."""
    folder = Path(tempfile.mkdtemp())
    (folder / "m" / "1").mkdir(parents=True)
    (folder / "m" / "config.pbtxt").write_text(_CONFIG)
    atexit.register(shutil.rmtree, folder)
    return folder


class _Faults(logging.Handler):
    """Keeps what the server logs as its own faults."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@contextmanager
def no_faults() -> Iterator[None]:
    """Raises at the end what was logged as a fault of the server in the block."""
    faults = _Faults()
    loggers = [logging.getLogger(name) for name in ("penstock", "uvicorn")]
    for logger in loggers:
        logger.addHandler(faults)
    try:
        yield
    finally:
        for logger in loggers:
            logger.removeHandler(faults)
    for record in faults.records:
        raise (record.exc_info and record.exc_info[1]) or AssertionError(record.getMessage())


class Client(asyncio.Transport):
    """The side of a connection that sends all at once and reads all that it is sent."""

    def __init__(self) -> None:
        super().__init__()
        self.received = bytearray()
        self._is_closing = False

    def write(self, data: Any) -> None:
        self.received += data

    def close(self) -> None:
        self._is_closing = True

    abort = close

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        return self._protocol

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        """It reads to the end in any case."""

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return self._is_closing

    def pause_reading(self) -> None:
        """Nothing more will come."""

    def resume_reading(self) -> None:
        """Nothing more will come."""
