"""What an engine finds in the repositories as it is started again, all engines are to serve.

Loads that clients ask for come to all alike; the folders may have changed since.
"""

import asyncio
import logging

from serving.errors import ServingError
from serving.workers.joined import JoinedEngine
from serving.workers.recovery import LastingModels

logger = logging.getLogger("penstock.workers")


async def keep_together(joined: JoinedEngine, lasting: LastingModels, is_new: bool) -> None:
    """Have all load what has changed, by `lasting`, around `joined`, whenever one has come back.

    Unless this process `is_new`, it has just come back itself. Goes on until cancelled.
    """
    returned = asyncio.Event()
    joined.watch_returns(returned.set)
    if not is_new:
        returned.set()
    while True:
        await returned.wait()
        returned.clear()
        for model in await joined.outdated():
            try:
                await lasting.reload(model)
            except ServingError as error:
                # One that is away again will be back; what else does not load, the index tells of.
                logger.warning("%s is not loaded anew in all engines: %s", model, error.message)
