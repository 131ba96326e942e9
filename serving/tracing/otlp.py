"""Traces as OpenTelemetry's spans, sent to a collector; needs the extra `otel`.

A request is a span `InferRequest` with the protocol's events, part of the client's trace if its
headers say so; in it a span of the model's name from the engine's taking it to its answer, and
in that a span `compute` with the events of the execution.
"""

import time
from collections.abc import Sequence
from importlib import import_module
from typing import Any, Final

from serving.errors import ServingError
from serving.tracing.config import TraceConfig
from serving.tracing.settings import TraceSettings
from serving.tracing.trace import Trace

_EXTRA: Final = "opentelemetry-sdk and opentelemetry-exporter-otlp-proto-http"
_MODEL: Final = ("REQUEST_START", "REQUEST_END")
_COMPUTE: Final = ("COMPUTE_START", "COMPUTE_END")
# Within these, the events of a span.
_IN_MODEL: Final = ("QUEUE_START", "INFER_RESPONSE_COMPLETE")
_IN_COMPUTE: Final = ("COMPUTE_INPUT_END", "COMPUTE_OUTPUT_START")
_CLOSE_MS: Final = 5000


class Otlp:
    """Sends spans by OTLP over HTTP, from a thread of the SDK's own."""

    def __init__(self, config: TraceConfig) -> None:
        try:
            sdk = import_module("opentelemetry.sdk.trace")
            processors = import_module("opentelemetry.sdk.trace.export")
            resources = import_module("opentelemetry.sdk.resources")
            http = import_module("opentelemetry.exporter.otlp.proto.http.trace_exporter")
            self._api: Any = import_module("opentelemetry.trace")
            propagation = import_module("opentelemetry.trace.propagation.tracecontext")
        except ImportError as error:
            raise ServingError(
                f"--trace-config=mode=opentelemetry needs {_EXTRA}: pip install 'penstock[otel]'"
            ) from error
        resource = resources.Resource.create({"service.name": "penstock", **config.resource})
        queue = config.batching["bsp_max_queue_size"]
        self._provider = sdk.TracerProvider(resource=resource, shutdown_on_exit=False)
        self._provider.add_span_processor(
            processors.BatchSpanProcessor(
                http.OTLPSpanExporter(endpoint=config.url),
                max_queue_size=queue,
                schedule_delay_millis=config.batching["bsp_schedule_delay"],
                # Which may be no larger than the queue, whoever says the queue alone.
                max_export_batch_size=min(queue, config.batching["bsp_max_export_batch_size"]),
            )
        )
        self._tracer = self._provider.get_tracer("penstock")
        self._propagator = propagation.TraceContextTextMapPropagator()
        # Spans tell the time of day, traces that of a clock that never jumps.
        self._epoch = time.time_ns() - time.monotonic_ns()

    def export(self, trace: Trace, _: TraceSettings) -> None:
        """Make the trace's spans; they are sent when there are enough of them, or soon."""
        events = sorted(trace.events, key=lambda event: event[1])
        at = dict(events)
        inner = {*_MODEL, *_COMPUTE, *_IN_MODEL, *_IN_COMPUTE}
        parent = self._propagator.extract(dict(trace.context))
        root = self._span("InferRequest", events[0][1], parent, self._api.SpanKind.SERVER)
        self._describe(root, trace, [event for event in events if event[0] not in inner])
        if at.keys() >= set(_MODEL):
            model = self._span(trace.model, at[_MODEL[0]], self._within(root))
            self._describe(model, trace, [event for event in events if event[0] in _IN_MODEL])
            if at.keys() >= set(_COMPUTE):
                compute = self._span("compute", at[_COMPUTE[0]], self._within(model))
                self._add(compute, [event for event in events if event[0] in _IN_COMPUTE])
                compute.end(self._epoch + at[_COMPUTE[1]])
            model.end(self._epoch + at[_MODEL[1]])
        root.end(self._epoch + events[-1][1])

    def close(self) -> None:
        """Send what is left, as far as the collector takes it within some seconds."""
        self._provider.force_flush(_CLOSE_MS)
        self._provider.shutdown()

    def _span(self, name: str, start: int, parent: Any, kind: Any = None) -> Any:
        return self._tracer.start_span(
            name,
            context=parent,
            kind=kind or self._api.SpanKind.INTERNAL,
            start_time=self._epoch + start,
        )

    def _within(self, span: Any) -> Any:
        return self._api.set_span_in_context(span)

    def _describe(self, span: Any, trace: Trace, events: Sequence[tuple[str, int]]) -> None:
        span.set_attribute("triton.model_name", trace.model)
        if trace.version:
            span.set_attribute("triton.model_version", int(trace.version))
        if trace.request_id:
            span.set_attribute("triton.trace_request_id", trace.request_id)
        if trace.error:
            span.set_status(self._api.StatusCode.ERROR, trace.error)
        self._add(span, events)

    def _add(self, span: Any, events: Sequence[tuple[str, int]]) -> None:
        for name, at in events:
            span.add_event(name, timestamp=self._epoch + at)
