"""What Triton refuses in the choice of a scheduler, before it has seen the graph; with the cure."""

from collections.abc import Iterator

from tritonclient.grpc import model_config_pb2

from serving.config.source import Fault
from serving.config.text import Proto

_DELAY = model_config_pb2.ModelQueuePolicy.DELAY


def priority_faults(proto: Proto) -> Iterator[Fault]:
    """What is wrong with the priority levels of `dynamic_batching`, and with its ordering."""
    batching, path = proto.dynamic_batching, "dynamic_batching"
    levels = batching.priority_levels
    if levels and not 1 <= batching.default_priority_level <= levels:
        yield Fault(
            f"{path}.default_priority_level",
            f"default priority level must be in range [1, {levels}], "
            f"got {batching.default_priority_level}",
        )
    for level in batching.priority_queue_policy:
        if levels and not 1 <= level <= levels:
            yield Fault(
                f"{path}.priority_queue_policy",
                f"priority queue policy must have priority level in range [1, {levels}], "
                f"got {level}",
            )
    if batching.preserve_ordering:
        yield from _ordering(batching, path)


def _ordering(batching: Proto, path: str) -> Iterator[Fault]:
    if batching.priority_levels > 1:
        yield Fault(
            f"{path}.priority_levels",
            "Only one priority level is allowed when 'preserve_ordering' is true: leave out the "
            "one or the other",
        )
    queues = [(f"{path}.default_queue_policy", batching.default_queue_policy)]
    queues += [
        (f"{path}.priority_queue_policy", p) for p in batching.priority_queue_policy.values()
    ]
    for where, queue in queues:
        if queue.default_timeout_microseconds and queue.timeout_action == _DELAY:
            yield Fault(
                f"{where}.timeout_action",
                "Queue policy can not have DELAY as timeout action when 'preserve_ordering' is "
                "true: write REJECT",
            )
