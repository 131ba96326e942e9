"""What clients may share with the server beside requests: one of each, for all protocols."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias

from serving.logs import Logs
from serving.settings import Settings
from serving.shared_memory import Regions
from serving.tracing.tracer import Tracer, open_tracer
from serving.types import ServerMetadata

# Makes a change wherever the server runs.
Share: TypeAlias = Callable[..., Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Extensions:
    """The state of the protocol's extensions that live in the gateway.

    `regions` is None where clients may share no memory, `share` where the server is one process.
    """

    logs: Logs
    tracer: Tracer
    regions: Regions | None
    share: Share | None = None

    @classmethod
    def of(cls, settings: Settings, logs: Logs, share: Share | None = None) -> "Extensions":
        """What the settings allow; ServingError where they contradict themselves."""
        return cls(
            logs=logs,
            tracer=open_tracer((*settings.deprecated_trace_config, *settings.trace_config)),
            regions=Regions(mapped=settings.map_client_shm) if settings.allow_client_shm else None,
            share=share,
        )

    async def change(self, what: str, *values: Any) -> None:
        """Change something, wherever the server runs; raises as what is changed does.

        `what` is one of `logs` (changes), `traces` (model, changes), `register` (name, key, offset,
        bytes) and `unregister` (name, or "" for all).
        """
        await self.share(what, *values) if self.share else self.apply(what, *values)

    def apply(self, what: str, *values: Any) -> None:
        """Change something in this process."""
        _CHANGES[what](self, *values)

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


def _register(extensions: Extensions, *region: Any) -> None:
    if extensions.regions is not None:
        extensions.regions.register(*region)


def _unregister(extensions: Extensions, name: str) -> None:
    if extensions.regions is not None and name:
        extensions.regions.unregister(name)
    elif extensions.regions is not None:
        extensions.regions.clear()


_CHANGES: Final[Mapping[str, Callable[..., None]]] = {
    "logs": lambda extensions, changes: extensions.logs.update(changes),
    "traces": lambda extensions, model, changes: extensions.tracer.update(changes, model),
    "register": _register,
    "unregister": _unregister,
}
