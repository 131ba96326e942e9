"""Every decoder of what comes from outside, by its name."""

from typing import Final

from tests.fuzz import bodies, messages, models

TARGETS: Final = {
    target.name: target for target in (*bodies.TARGETS, *messages.TARGETS, *models.TARGETS)
}
