"""Which metrics there are, by tritonserver's flags."""

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Final, TypeAlias

import click

from serving.flags import FiniteRange, flag

Quantiles: TypeAlias = tuple[float, ...]

_FLAGS: Final = {"true": True, "1": True, "false": False, "0": False}


@dataclass(frozen=True, slots=True)
class MetricsConfig:
    """What --metrics-config asks for, with Triton's defaults.

    `counter_latencies`    the durations as counters, and what the cache counts of each model
    `summary_latencies`    the durations as summaries, of which `quantiles` are told
    `histogram_latencies`  how long decoupled models take until their first response
    """

    counter_latencies: bool = True
    summary_latencies: bool = False
    histogram_latencies: bool = False
    quantiles: Quantiles = (0.5, 0.9, 0.95, 0.99, 0.999)


@dataclass(frozen=True, kw_only=True)
class MetricsSettings:
    """What `/metrics` tells; times in milliseconds."""

    allow_cpu_metrics: bool = field(
        default=True,
        metadata=flag("Whether metrics tell of the host's processors and memory.", bool),
    )
    allow_gpu_metrics: bool = field(
        default=True,
        metadata=flag(
            "Whether metrics tell of the GPUs, where nvidia-ml-py and a driver are installed.", bool
        ),
    )
    metrics_interval_ms: float = field(
        default=2000.0,
        metadata=flag(
            "How old what is sampled may be that metrics tell of the host and of its GPUs.",
            FiniteRange(0, min_open=True),
        ),
    )
    load_objective_ms: float = field(
        default=100.0,
        metadata=flag(
            "The wait that counts as a load of 1 in the gauge penstock_load, for models whose "
            "config.pbtxt names no latency_objective_ms. Nobody is refused for it.",
            FiniteRange(0, min_open=True),
        ),
    )
    metrics_config: tuple[str, ...] = field(
        default=(),
        metadata=flag(
            "A setting of metrics, as SETTING=VALUE; may be given several times. "
            "counter_latencies=false leaves the durations' counters out, summary_latencies=true "
            "adds summaries, of the quantiles in summary_quantiles=0.5:0.05,0.99:0.001, and "
            "histogram_latencies=true the time to the first response of decoupled models.",
            str,
            multiple=True,
        ),
    )

    @property
    def metrics(self) -> MetricsConfig:
        """What --metrics-config comes to; UsageError for what makes no sense."""
        return read(self.metrics_config)


def read(options: Iterable[str]) -> MetricsConfig:
    """The configuration that the options make, the last one of each setting counting."""
    config = MetricsConfig()
    for option in options:
        name, _, value = option.partition("=")
        if name == "summary_quantiles":
            config = replace(config, quantiles=_quantiles(option, value))
        elif name == "counter_latencies":
            config = replace(config, counter_latencies=_flag(option, value))
        elif name == "summary_latencies":
            config = replace(config, summary_latencies=_flag(option, value))
        elif name == "histogram_latencies":
            config = replace(config, histogram_latencies=_flag(option, value))
        else:
            raise _refusal(
                option,
                "expected counter_latencies, summary_latencies, summary_quantiles or "
                "histogram_latencies, with =VALUE",
            )
    return config


def _flag(option: str, value: str) -> bool:
    if value.lower() not in _FLAGS:
        raise _refusal(option, "expected true or false")
    return _FLAGS[value.lower()]


def _quantiles(option: str, value: str) -> Quantiles:
    """The quantiles of a list of QUANTILE:ERROR; ours are of the exact rank, whatever the error."""
    quantiles = []
    for pair in value.split(","):
        try:
            quantile, error = map(float, pair.split(":"))
        except ValueError:
            raise _refusal(
                option, f"{pair!r} is not <quantile>:<error>, such as 0.99:0.001"
            ) from None
        if not (0 <= quantile <= 1 and math.isfinite(error) and error >= 0):
            raise _refusal(option, f"{pair!r}: a quantile is between 0 and 1, an error above 0")
        quantiles.append(quantile)
    return tuple(dict.fromkeys(quantiles))


def _refusal(option: str, why: str) -> click.UsageError:
    return click.UsageError(f"--metrics-config={option}: {why}")
