"""The event loop that a process of the server runs on."""

import asyncio
import gc
import sys
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final

from serving import heap
from serving.threads import available_cpus

# Containers more than at the last collection that bring the next. A request in hand has some forty,
# and in Python's own 700 hundreds of requests would be searched for garbage again and again.
_YOUNG: Final = 50_000
# Seconds for which a thread may keep Python from another that waits for it, where both could run.
# By Python's own 5 ms a batch begins only when the loop has read and answered all that there is,
# and a processor that could compute meanwhile waits.
_TURN: Final = 0.0001


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run `main` to its end, on uvloop's loop where it exists, which answers twice as much."""
    heap.keep_free_memory()
    # What has been imported stays. To look through it again and again would stop all answers for
    # as long as tens of batches take.
    gc.freeze()
    gc.set_threshold(_YOUNG)
    if available_cpus() > 1:
        sys.setswitchinterval(_TURN)
    factory = None
    if sys.platform != "win32":
        import uvloop

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(_without_waiting(main))


async def _without_waiting(main: Coroutine[Any, Any, None]) -> None:
    """`main`, whose threads the loop does not wait for as it closes.

    One may look at a store that does not answer; whoever ends the process leaves it behind
    (`threads.leave`)."""
    loop = asyncio.get_running_loop()
    pool = ThreadPoolExecutor(thread_name_prefix="asyncio")
    loop.set_default_executor(pool)
    try:
        await main
    finally:
        pool.shutdown(wait=False)
        # For the tasks that are cancelled now, and have something to put away.
        loop.set_default_executor(ThreadPoolExecutor(thread_name_prefix="asyncio"))
