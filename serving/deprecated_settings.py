"""Settings that have a newer name, and by which one they are known inside."""

from dataclasses import dataclass, field

from serving.flags import flag


@dataclass(frozen=True, kw_only=True)
class DeprecatedSettings:
    """Tritonserver's older flags for traces; "" leaves a setting as it is."""

    trace_file: str = field(
        default="", metadata=flag("As --trace-config=triton,file=PATH does.", str)
    )
    trace_level: tuple[str, ...] = field(
        default=(), metadata=flag("As --trace-config=level=LEVEL does.", str, multiple=True)
    )
    trace_rate: str = field(default="", metadata=flag("As --trace-config=rate=RATE does.", str))
    trace_count: str = field(default="", metadata=flag("As --trace-config=count=COUNT does.", str))
    trace_log_frequency: str = field(
        default="", metadata=flag("As --trace-config=triton,log-frequency=NUMBER does.", str)
    )

    @property
    def deprecated_trace_config(self) -> tuple[str, ...]:
        """The same as values of --trace-config."""
        singles = {
            "triton,file": self.trace_file,
            "rate": self.trace_rate,
            "count": self.trace_count,
            "triton,log-frequency": self.trace_log_frequency,
        }
        given = tuple(f"{name}={value}" for name, value in singles.items() if value)
        return (*given, *(f"level={level}" for level in self.trace_level))
