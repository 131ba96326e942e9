"""A result as a JSON document of the schema `penstock.bench/1`, which docs/bench.md describes."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from serving.bench.plan import Step
from serving.bench.result import Result, StepResult, Window
from serving.bench.slo import Verdict
from serving.bench.split import Split

SCHEMA: Final = "penstock.bench/1"


def to_json(result: Result) -> bytes:
    """The document; times are in milliseconds, rates per second, shares of 1."""
    return orjson.dumps(document(result), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


def document(result: Result) -> dict[str, Any]:
    """The document as Python values."""
    target = result.target
    return {
        "schema": SCHEMA,
        "began": datetime.fromtimestamp(result.began, UTC).isoformat(timespec="seconds"),
        "command": result.command,
        "complete": result.is_complete,
        "passed": result.passed and result.is_complete,
        "target": {
            "url": target.url,
            "protocol": target.protocol.value,
            "model": target.model,
            "version": target.version or None,
            "server": dict(result.server),
        },
        "inputs": {
            "data": result.data,
            "shapes": {name: list(shape) for name, shape in result.inputs.items()},
        },
        "client": {"processes": result.processes, **result.client},
        "objectives": [objective.text for objective in result.objectives],
        "steps": [_step(step) for step in result.steps],
    }


def _step(result: StepResult) -> dict[str, Any]:
    client = result.client
    return {
        "load": _load(result.step),
        "complete": result.is_complete,
        "passed": result.passed,
        "seconds": result.elapsed,
        "answered": result.answered,
        "failed": result.failed,
        "error_share": result.errors,
        "throughput": result.throughput,
        "rows_per_second": result.throughput * result.rows,
        "goodput": result.goodput if any(v.objective.is_latency for v in result.verdicts) else None,
        "latency_ms": _milliseconds(result.latencies) if result.answered else None,
        "distribution_ms": [[percent, 1e3 * each] for percent, each in result.distribution],
        "failures": [
            {"status": failure.status, "message": failure.message, "count": count}
            for failure, count in result.failures.items()
        ],
        "windows": [_window(window) for window in result.windows],
        "server_ms": _split(result.server) if result.server else None,
        "server_timing_ms": {
            name: _milliseconds(each) for name, each in sorted(result.timings.items())
        },
        "client": {
            "cpu_share": list(client.cpu),
            "late_ms": _milliseconds(client.late),
            "loop_lag_ms": _milliseconds(client.lag),
            "held_back": client.held_back,
        },
        "objectives": [_verdict(verdict) for verdict in result.verdicts],
        "warnings": list(result.warnings),
    }


def _load(step: Step) -> dict[str, Any]:
    load: dict[str, Any] = {"loop": "closed", "connections": step.in_flight}
    if arrivals := step.arrivals:
        load = {
            "loop": "open",
            "arrivals": arrivals.shape.value,
            "rate": arrivals.rate,
            "start_rate": arrivals.start or None,
            "burst": arrivals.burst if arrivals.burst > 1 else None,
            "seed": arrivals.seed,
            "max_in_flight": step.in_flight,
        }
    return load | {
        "warm_up_seconds": step.warm_up,
        "duration_seconds": step.duration or None,
        "requests": step.requests or None,
        "timeout_seconds": step.timeout,
    }


def _window(window: Window) -> dict[str, Any]:
    return {
        "begin_seconds": window.begin,
        "seconds": window.length,
        "answered": window.answered,
        "failed": window.failed,
        "p50_ms": 1e3 * window.p50,
        "p99_ms": 1e3 * window.p99,
    }


def _split(split: Split) -> dict[str, Any]:
    return {
        "requests": split.requests,
        "rows": split.rows,
        "executions": split.executions,
        "rows_per_execution": split.batch,
        "queue": 1e3 * split.queue,
        "compute_input": 1e3 * split.compute_input,
        "compute_infer": 1e3 * split.compute_infer,
        "compute_output": 1e3 * split.compute_output,
    }


def _verdict(verdict: Verdict) -> dict[str, Any]:
    scale = 1e3 if verdict.objective.is_latency else 1.0
    return {
        "objective": verdict.objective.text,
        "figure": verdict.objective.name,
        "bound": verdict.objective.bound * scale,
        "measured": verdict.measured * scale,
        "met": verdict.met,
    }


def _milliseconds(figures: Mapping[str, float]) -> dict[str, float]:
    return {name: 1e3 * value for name, value in figures.items()}
