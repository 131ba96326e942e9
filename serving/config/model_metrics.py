"""What a configuration says of its model's metrics: further labels, and a histogram's buckets."""

import math
import re
from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import Final

from serving.config.source import Fault
from serving.config.text import Proto

FIRST_RESPONSE: Final = "nv_inference_first_response_histogram_ms"
# Behind the underscore that sets tags apart; two of them are Prometheus' own.
_TAG: Final = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_]*")
# Triton's, in milliseconds.
_DEFAULT: Final = (100.0, 500.0, 2000.0, 5000.0)


def metric_faults(proto: Proto) -> Iterator[Fault]:
    """What asks for another metric than there is, for buckets that are none, or labels."""
    for tag in proto.metric_tags:
        if not _TAG.fullmatch(tag):
            yield Fault(
                f'metric_tags["{tag}"]',
                f"metric tag {tag!r} cannot be a label's name: write letters, digits and "
                "underscores, of which none comes first",
            )
    for index, control in enumerate(proto.model_metrics.metric_control):
        path = f"model_metrics.metric_control[{index}]"
        family, buckets = control.metric_identifier.family, control.histogram_options.buckets
        if family != FIRST_RESPONSE:
            yield Fault(
                f"{path}.metric_identifier.family",
                f"metric family '{family}' cannot be configured: write '{FIRST_RESPONSE}'",
            )
        elif not buckets or not _ascend(buckets):
            yield Fault(
                f"{path}.histogram_options.buckets",
                f"the buckets of '{family}' must be ascending, got {list(buckets)}",
            )


def _ascend(buckets: Iterable[float]) -> bool:
    """Whether they do, from one number to another."""
    return all(low < high for low, high in pairwise((-math.inf, *buckets, math.inf)))


def first_response_bounds(proto: Proto) -> tuple[float, ...]:
    """The upper bounds of the first response's buckets, in milliseconds."""
    controls = proto.model_metrics.metric_control
    given = [tuple(control.histogram_options.buckets) for control in controls]
    return given[-1] if given else _DEFAULT
