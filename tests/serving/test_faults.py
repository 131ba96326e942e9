"""What the log is told of executions that fail."""

import pytest

from serving.errors import Internal
from serving.faults import Faults

SECOND = 1_000_000_000


def test_the_first_failure_is_told_at_once_and_many_are_told_together(
    caplog: pytest.LogCaptureFixture,
) -> None:
    now = 0
    faults = Faults("m version 3", clock=lambda: now)

    for now in (5 * SECOND, 6 * SECOND, 7 * SECOND, 16 * SECOND, 17 * SECOND, 40 * SECOND):
        faults.tell(Internal(f"it broke at {now // SECOND}"))

    assert caplog.messages == [
        "m version 3: it broke at 5",
        "m version 3: it broke at 16 (and 2 more since the last line)",
        "m version 3: it broke at 40 (and 1 more since the last line)",
    ]
