"""What clients may share with the server beside requests: one of each, for all protocols."""

from dataclasses import dataclass, replace

from serving.logs import Logs
from serving.settings import Settings
from serving.shared_memory import Regions
from serving.tracing.tracer import Tracer, open_tracer
from serving.types import ServerMetadata


@dataclass(frozen=True, slots=True)
class Extensions:
    """The state of the protocol's extensions that live in the gateway.

    `regions` is None where clients may share no memory.
    """

    logs: Logs
    tracer: Tracer
    regions: Regions | None

    @classmethod
    def of(cls, settings: Settings, logs: Logs) -> "Extensions":
        """What the settings allow; ServingError where they contradict themselves."""
        return cls(
            logs=logs,
            tracer=open_tracer((*settings.deprecated_trace_config, *settings.trace_config)),
            regions=Regions() if settings.allow_client_shm else None,
        )

    def added_to(self, metadata: ServerMetadata) -> ServerMetadata:
        """An engine's metadata, with the extensions that it knows nothing of."""
        names = [*metadata.extensions, "trace", "logging"]
        if self.regions is not None:
            names.append("system_shared_memory")
        return replace(metadata, extensions=tuple(names))

    def close(self) -> None:
        """Release what clients have left behind."""
        if self.regions is not None:
            self.regions.clear()
        self.tracer.close()
