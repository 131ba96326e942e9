"""Which kind of servable an opened version becomes: its configuration decides."""

from serving.engine.model import ModelVersion
from serving.engine.servable import Find, Opened, Servable


def assemble(opened: Opened, default_max_queue: int, find: Find) -> Servable:
    """The servable for `opened`; to be called on the event loop.

    `default_max_queue` bounds the queue where the configuration does not; `find` is how a version
    that is made of other models reaches them.
    """
    del find  # no kind needs it so far
    return ModelVersion(opened, opened.config.batch_policy(default_max_queue))
