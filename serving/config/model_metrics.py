"""What a configuration says of its model's metrics: further labels, and a histogram's buckets."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Final

from serving.config.source import Fault
from serving.config.text import Proto

FIRST_RESPONSE: Final = "nv_inference_first_response_histogram_ms"
# Triton's, in milliseconds.
_DEFAULT: Final = (100.0, 500.0, 2000.0, 5000.0)


def metric_faults(proto: Proto) -> Iterator[Fault]:
    """What asks for another metric than there is, or for buckets that are none."""
    for index, control in enumerate(proto.model_metrics.metric_control):
        path = f"model_metrics.metric_control[{index}]"
        family, buckets = control.metric_identifier.family, control.histogram_options.buckets
        if family != FIRST_RESPONSE:
            yield Fault(
                f"{path}.metric_identifier.family",
                f"metric family '{family}' cannot be configured: write '{FIRST_RESPONSE}'",
            )
        elif not buckets or any(low >= high for low, high in pairwise(buckets)):
            yield Fault(
                f"{path}.histogram_options.buckets",
                f"the buckets of '{family}' must be ascending, got {list(buckets)}",
            )


def first_response_bounds(proto: Proto) -> tuple[float, ...]:
    """The upper bounds of the first response's buckets, in milliseconds."""
    controls = proto.model_metrics.metric_control
    given = [tuple(control.histogram_options.buckets) for control in controls]
    return given[-1] if given else _DEFAULT
