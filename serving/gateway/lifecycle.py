"""Where the server is in its life: starting, ready and draining are three different things.

Live it is in all of them: whoever gets an answer knows.
"""

import asyncio

from serving.engine.base import Engine


class Lifecycle:
    """Answers the health questions of every protocol alike; to be used on the event loop.

    `changed` is set at the next change of readiness, and is another event from then on.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.draining = False
        self.changed = asyncio.Event()
        engine.watch(self._announce)

    def started(self) -> None:
        """The models have been loaded."""
        self._announce()

    def drain(self) -> None:
        """From now on, new requests are not welcome."""
        self.draining = True
        self._announce()

    async def ready(self) -> bool:
        """True while new requests are welcome: models answer and the server is not stopping."""
        return not self.draining and await self._engine.ready()

    async def model_ready(self, model: str, version: str) -> bool:
        """True while new requests for that version are welcome."""
        return not self.draining and await self._engine.model_ready(model, version)

    def _announce(self) -> None:
        self.changed.set()
        self.changed = asyncio.Event()
