"""Which threads do the work."""

import threading
from typing import Any

import pytest


def threads_of(patch: pytest.MonkeyPatch, owner: object, name: str) -> list[threading.Thread]:
    """Filled, call by call, with the threads that run a function of `owner`."""
    threads: list[threading.Thread] = []
    function = getattr(owner, name)

    def recorded(*arguments: Any) -> Any:
        threads.append(threading.current_thread())
        return function(*arguments)

    patch.setattr(owner, name, recorded)
    return threads
