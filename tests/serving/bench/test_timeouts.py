"""Requests of the load generator that take too long."""

import asyncio
import time

from serving.bench.client.timeouts import Timeouts

_LONG = 3600 * 10**9
_PATIENCE = 60


async def test_less_time_than_a_forgotten_request_had_is_kept() -> None:
    expired: asyncio.Queue[str] = asyncio.Queue()
    timeouts = Timeouts(asyncio.get_running_loop(), expired.put_nowait)
    timeouts.add("slow", time.monotonic_ns() + _LONG)
    timeouts.remove("slow")

    timeouts.add("quick", time.monotonic_ns())

    assert await asyncio.wait_for(expired.get(), _PATIENCE) == "quick"
    timeouts.clear()
