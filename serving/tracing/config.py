"""What --trace-config says at start: `level=TIMESTAMPS`, `rate=100`, `triton,file=trace.json`, …"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from serving.errors import InvalidArgument, ServingError
from serving.tracing.settings import TraceSettings, parse

TRITON: Final = "triton"
OPENTELEMETRY: Final = "opentelemetry"

# The protocol's names of what is set for all modes, by tritonserver's.
_SETTINGS: Final = {
    "level": "trace_level",
    "rate": "trace_rate",
    "count": "trace_count",
    "triton,log-frequency": "log_frequency",
}
_BATCHING: Final = ("bsp_max_queue_size", "bsp_schedule_delay", "bsp_max_export_batch_size")


@dataclass(frozen=True, slots=True)
class TraceConfig:
    """How traces are written, fixed at start, and the settings to start with.

    `file` is for mode triton; `url`, `resource` and `batching` for mode opentelemetry: where spans
    are sent, what sends them, and the numbers of OpenTelemetry's batch span processor by Triton's
    names.
    """

    mode: str = TRITON
    file: str = ""
    url: str = "http://localhost:4318/v1/traces"
    resource: Mapping[str, str] = field(default_factory=dict)
    batching: Mapping[str, int] = field(
        default_factory=lambda: dict(zip(_BATCHING, (2048, 5000, 512), strict=True))
    )
    settings: TraceSettings = field(default_factory=TraceSettings)


def read(options: Sequence[str]) -> TraceConfig:
    """The configuration that the options make; ServingError for one that makes no sense."""
    config = TraceConfig()
    levels: list[str] = []
    for option in options:
        name, separator, value = option.partition("=")
        if not separator:
            raise _refusal(option, "expected [MODE,]SETTING=VALUE")
        if name == "level":
            levels.append(value)
        else:
            config = _with(config, option, name, value)
    if levels:
        try:
            config = _with_setting(config, "level", levels)
        except InvalidArgument as error:
            raise _refusal(f"level={','.join(levels)}", error.message) from None
    if config.settings.levels and config.mode == TRITON and not config.file:
        raise ServingError("--trace-config: a level needs triton,file=PATH, where traces go")
    return config


def _with(config: TraceConfig, option: str, name: str, value: str) -> TraceConfig:
    try:
        if name in _SETTINGS:
            return _with_setting(config, name, value)
        match name.partition(","):
            case ("mode", "", ""):
                return _with_mode(config, option, value)
            case ("triton", ",", "file"):
                return replace(config, file=value)
            case ("opentelemetry", ",", "url"):
                return replace(config, url=value)
            case ("opentelemetry", ",", "resource"):
                key, _, content = value.partition("=")
                return replace(config, resource={**config.resource, key: content})
            case ("opentelemetry", ",", number) if number in _BATCHING:
                if not (value.isdecimal() and 0 < int(value) < 2**31):
                    raise _refusal(option, "expected a whole number above 0")
                return replace(config, batching={**config.batching, number: int(value)})
    except InvalidArgument as error:
        raise _refusal(option, error.message) from None
    raise _refusal(option, "no such setting")


def _with_mode(config: TraceConfig, option: str, mode: str) -> TraceConfig:
    if mode not in (TRITON, OPENTELEMETRY):
        raise _refusal(option, f"expected {TRITON} or {OPENTELEMETRY}")
    return replace(config, mode=mode)


def _with_setting(config: TraceConfig, name: str, value: str | list[str]) -> TraceConfig:
    values = parse({_SETTINGS.get(name, name): value})
    return replace(config, settings=replace(config.settings, **values))


def _refusal(option: str, why: str) -> ServingError:
    return ServingError(f"--trace-config={option}: {why}")
