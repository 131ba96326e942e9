"""Which kind of servable an opened version becomes: its configuration decides."""

import logging

from serving.engine.batching.loop_time import LoopTime
from serving.engine.cache import ResponseCache
from serving.engine.cached import CachedVersion
from serving.engine.decoupled import decoupled
from serving.engine.ensemble import Ensemble
from serving.engine.model import ModelVersion
from serving.engine.scheduling import schedule
from serving.engine.servable import Find, Opened, Servable

logger = logging.getLogger("penstock.load")


def assemble(
    opened: Opened,
    default_max_queue: int,
    find: Find,
    cache: ResponseCache | None = None,
    loop_time: LoopTime | None = None,
) -> Servable:
    """The servable for `opened`; to be called on the event loop.

    `default_max_queue` bounds the queue where the configuration does not; `find` is how a version
    that is made of other models reaches them, `cache` the server's response cache, `loop_time`
    what may be executed on the loop. LoadFailed if the other models are not loaded or do not fit
    together.
    """
    config = opened.config
    servable: Servable
    if config.is_ensemble:
        servable = Ensemble(opened, find)
    elif config.is_decoupled:
        servable = decoupled(opened, default_max_queue)
    else:
        servable = ModelVersion(opened, schedule(opened, default_max_queue), loop_time)
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
