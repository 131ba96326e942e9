"""Picks out the requests that are traced, by the settings of the server or of their model."""

import itertools
import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, Protocol

from serving.errors import InvalidArgument
from serving.tracing.config import OPENTELEMETRY, TraceConfig, read
from serving.tracing.otlp import Otlp
from serving.tracing.settings import TENSORS, Changes, Document, TraceSettings, parse
from serving.tracing.trace import Trace
from serving.tracing.triton_file import TritonFile

logger = logging.getLogger("penstock.tracing")

# Where W3C's Trace Context says that a request is part of a trace.
_PARENT: Final = "traceparent"


class Exporter(Protocol):
    """Where traces go."""

    def export(self, trace: Trace, settings: TraceSettings) -> None:
        """Take a finished trace."""

    def close(self) -> None:
        """Write what was taken."""


def open_tracer(options: Sequence[str]) -> "Tracer":
    """The tracer that --trace-config's values ask for; ServingError where they make no sense."""
    config = read(options)
    if config.mode == OPENTELEMETRY:
        return Tracer(config, Otlp(config))
    return Tracer(config, TritonFile(config.file) if config.file else None)


class _Sampler:
    """Which requests are traced, by one set of settings, whose count is what is left of it."""

    def __init__(self, settings: TraceSettings) -> None:
        self.settings = settings
        self._seen = 0

    def picks(self) -> bool:
        """Whether the request at hand is to be traced."""
        settings = self.settings
        if not settings.levels or not settings.rate or not settings.count:
            return False
        self._seen += 1
        if self._seen % settings.rate:
            return False
        if settings.count > 0:
            self.settings = replace(settings, count=settings.count - 1)
        return True


class Tracer:
    """The traces of one server."""

    def __init__(self, config: TraceConfig, exporter: Exporter | None) -> None:
        self._config = config
        self._exporter = exporter
        self._server = _Sampler(config.settings)
        self._models: dict[str, _Sampler] = {}
        # What is set for a model; the rest follows the server's settings.
        self._overrides: dict[str, dict[str, Any]] = {}
        self._numbers = itertools.count(1)
        # Whether no request can be traced, as the settings are; looked at for every request.
        self.is_idle = not self._server.settings.levels

    def settings(self, model: str = "") -> Document:
        """The settings in force, of a model or of the server."""
        document = self._sampler(model).settings.document()
        if self._config.mode == OPENTELEMETRY:
            del document["log_frequency"]
            batching = {name: str(value) for name, value in self._config.batching.items()}
            resource = ",".join(f"{key}={value}" for key, value in self._config.resource.items())
            document |= {"url": self._config.url, "resource": resource, **batching}
        else:
            document["trace_file"] = self._config.file
        return {**document, "trace_mode": self._config.mode}

    def update(self, changes: Changes, model: str = "") -> None:
        """Change settings, of a model or of the server: all or, where one is refused, none.

        None takes a setting back: to that of the server, or to that from the start. Raises
        InvalidArgument and Unsupported as `settings.parse`.
        """
        values = parse(changes)
        self._check(values)
        if model:
            self._override(model, values)
        else:
            self._change(values)
        self.is_idle = not self._server.settings.levels and not self._models

    def begin(self, model: str, context: Mapping[str, str]) -> Trace | None:
        """The record for a request to `model`, None if it is not traced.

        `context` are its headers or metadata, with names in lower case.
        """
        sampler = self._sampler(model)
        settings = sampler.settings
        # As in Triton, what belongs to a client's trace is traced at any rate.
        is_part = (
            self._config.mode == OPENTELEMETRY and bool(settings.levels) and _PARENT in context
        )
        if not is_part and not sampler.picks():
            return None
        return Trace(next(self._numbers), model, context, TENSORS in settings.levels, self._export)

    def close(self) -> None:
        """Write what is not written yet, as far as that can be done."""
        try:
            if self._exporter is not None:
                self._exporter.close()
        except Exception as error:
            logger.error("traces are lost: %s", error)

    def _sampler(self, model: str) -> _Sampler:
        return self._models.get(model, self._server) if self._models else self._server

    def _change(self, values: Mapping[str, Any]) -> None:
        started = self._config.settings
        chosen = {
            name: getattr(started, name) if value is None else value
            for name, value in values.items()
        }
        self._server.settings = replace(self._server.settings, **chosen)
        for name in self._models:
            self._override(name, {})

    def _override(self, model: str, values: Mapping[str, Any]) -> None:
        before = self._overrides.get(model, {})
        overrides = {
            name: value for name, value in (before | dict(values)).items() if value is not None
        }
        if not overrides:
            self._overrides.pop(model, None)
            self._models.pop(model, None)
            return
        sampler = self._models.setdefault(model, _Sampler(self._server.settings))
        if "count" in before and "count" not in values:
            # What is left of the model's own count.
            overrides["count"] = sampler.settings.count
        self._overrides[model] = overrides
        sampler.settings = replace(self._server.settings, **overrides)

    def _check(self, values: Mapping[str, Any]) -> None:
        if self._config.mode == OPENTELEMETRY:
            if "log_frequency" in values:
                raise InvalidArgument("log_frequency: no trace setting in mode opentelemetry")
            if TENSORS in (values.get("levels") or ()):
                raise InvalidArgument("trace_level: TENSORS are not traced in mode opentelemetry")
        elif values.get("levels") and not self._config.file:
            raise InvalidArgument(
                "Attempting to set invalid trace setting :trace file name is not given"
            )

    def _export(self, trace: Trace) -> None:
        assert self._exporter is not None, "a level needs an exporter"
        try:
            self._exporter.export(trace, self._sampler(trace.model).settings)
        except Exception as error:
            # The request is worth more than its trace.
            logger.error("a trace is lost: %s", error)
