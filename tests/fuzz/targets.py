"""Every decoder of what comes from outside, by its name."""

from typing import Final

from tests.fuzz import bodies, exchanges, frames, messages, models

TARGETS: Final = {
    target.name: target
    for module in (bodies, exchanges, frames, messages, models)
    for target in module.TARGETS
}
