"""What one process wrote last, for the one that comes after it."""

import logging
import os

logger = logging.getLogger("penstock.workers")


class Ledger:
    """Bytes in memory that belongs to no process, and goes with the last that has it open.

    Whoever writes may be killed at any moment: what was written before is whole until all of the
    new is there. To be made before the processes that share it, of which one writes at a time.
    `subject` is what is written down, as the log calls it.
    """

    def __init__(self, subject: str) -> None:
        self._subject = subject
        # Why nothing could be written the last time; "" if it could.
        self._fault = ""
        self._places = [os.memfd_create(f"penstock-ledger-{place}") for place in range(2)]
        # One byte: which of the places holds what was written last; none at first.
        self._newest = os.memfd_create("penstock-ledger")

    def read(self) -> bytes | None:
        """What was written last; None if nothing was."""
        newest = self._place()
        if newest is None:
            return None
        with open(self._places[newest], "rb", closefd=False) as file:
            file.seek(0)
            return file.read()

    def write(self, content: bytes) -> bool:
        """Have `content` read from now on; where that fails, the log says so, and this is False.

        Nobody who is served now needs what is written: it must not cost them their answer.
        """
        try:
            self._write(content)
        except OSError as error:
            self._tell(error.strerror or str(error))
            return False
        self._tell("")
        return True

    def _tell(self, fault: str) -> None:
        if fault == self._fault:
            return
        self._fault = fault
        if fault:
            logger.warning(
                "cannot write down %s: %s; a restart of the engine would go back to what was last "
                "written",
                self._subject,
                fault,
            )
        else:
            logger.info("can write down %s again", self._subject)

    def _write(self, content: bytes) -> None:
        place = 1 - (self._place() or 0)
        with open(self._places[place], "wb", closefd=False) as file:
            file.seek(0)
            file.truncate()
            file.write(content)
        os.pwrite(self._newest, bytes((place,)), 0)

    def close(self) -> None:
        """Close it in this process."""
        for descriptor in (*self._places, self._newest):
            os.close(descriptor)

    def _place(self) -> int | None:
        mark = os.pread(self._newest, 1, 0)
        return mark[0] if mark else None
