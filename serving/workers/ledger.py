"""What one process wrote last, for the one that comes after it."""

import os


class Ledger:
    """Bytes in memory that belongs to no process, and goes with the last that has it open.

    Whoever writes may be killed at any moment: what was written before is whole until all of the
    new is there. To be made before the processes that share it, of which one writes at a time.
    """

    def __init__(self) -> None:
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

    def write(self, content: bytes) -> None:
        """Have `content` read from now on."""
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
