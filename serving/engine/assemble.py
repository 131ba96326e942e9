"""Which kind of servable an opened version becomes: its configuration decides."""

import logging

from serving.engine.cache import ResponseCache
from serving.engine.cached import CachedVersion
from serving.engine.ensemble import Ensemble
from serving.engine.model import ModelVersion
from serving.engine.scheduling import schedule
from serving.engine.servable import Find, Opened, Servable

logger = logging.getLogger("penstock.load")


def assemble(
    opened: Opened, default_max_queue: int, find: Find, cache: ResponseCache | None = None
) -> Servable:
    """The servable for `opened`; to be called on the event loop.

    `default_max_queue` bounds the queue where the configuration does not; `find` is how a version
    that is made of other models reaches them, `cache` the server's response cache. LoadFailed if
    the other models are not loaded or do not fit together.
    """
    config = opened.config
    servable: Servable
    if config.is_ensemble:
        servable = Ensemble(opened, find)
    else:
        servable = ModelVersion(opened, schedule(opened, default_max_queue))
    if not config.caches_responses:
        return servable
    if cache is None:
        logger.warning(
            "%s version %s asks for a response cache and the server has none: nothing is cached; "
            "start it with --cache-config=local,size=BYTES",
            config.name,
            opened.version,
        )
        return servable
    return CachedVersion(servable, cache)
