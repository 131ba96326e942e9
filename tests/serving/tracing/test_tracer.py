"""Which requests are traced, by the settings of the server and of models."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from serving.dtypes import Datatype
from serving.errors import InvalidArgument, ServingError
from serving.tracing.config import TraceConfig, read
from serving.tracing.settings import TraceSettings
from serving.tracing.trace import Trace
from serving.tracing.tracer import Tracer, open_tracer
from serving.tracing.triton_file import TritonFile
from serving.types import InferenceRequest, InferenceResponse, Tensor, Timing

ON = TraceSettings(("TIMESTAMPS",), rate=1)
OTLP = ("mode=opentelemetry", "level=TIMESTAMPS", "rate=0")


class Kept:
    """An exporter that keeps what it gets."""

    def __init__(self) -> None:
        self.traces: list[tuple[str, TraceSettings]] = []

    def export(self, trace: Trace, settings: TraceSettings) -> None:
        self.traces.append((trace.model, settings))

    def close(self) -> None:
        pass


def tracer(settings: TraceSettings = ON, exporter: Any = None) -> Tracer:
    return Tracer(TraceConfig(file="trace.json", settings=settings), exporter or Kept())


def picked(tracer: Tracer, requests: int, model: str = "m") -> list[int]:
    """Which of so many requests are traced."""
    return [index for index in range(requests) if tracer.begin(model, {})]


def test_one_of_so_many_requests_is_traced() -> None:
    assert picked(tracer(), 3) == [0, 1, 2]
    assert picked(tracer(TraceSettings(("TIMESTAMPS",), rate=3)), 9) == [2, 5, 8]


@pytest.mark.parametrize(
    "settings", [TraceSettings(rate=1), TraceSettings(("TIMESTAMPS",), rate=0)]
)
def test_without_a_level_or_a_rate_none_is_traced(settings: TraceSettings) -> None:
    assert picked(tracer(settings), 10) == []


def test_only_so_many_are_traced_and_what_is_left_is_told() -> None:
    counting = tracer(TraceSettings(("TIMESTAMPS",), rate=2, count=3))
    assert picked(counting, 4) == [1, 3]
    assert counting.settings()["trace_count"] == "1"
    assert picked(counting, 10) == [1]
    assert counting.settings()["trace_count"] == "0"
    counting.update({"trace_count": "1"})
    assert len(picked(counting, 10)) == 1


def test_nothing_is_done_where_nothing_can_be_traced() -> None:
    changing = tracer(TraceSettings())
    states = [changing.is_idle]
    for levels, model in ((["TIMESTAMPS"], "m"), (None, "m"), (["TENSORS"], "")):
        changing.update({"trace_level": levels}, model)
        states.append(changing.is_idle)
    assert states == [True, False, True, False]


def test_a_model_may_have_settings_of_its_own() -> None:
    both = tracer(TraceSettings(rate=1))
    both.update({"trace_level": ["TIMESTAMPS"], "trace_rate": "2"}, "m")
    assert picked(both, 4, "m") == [1, 3]
    assert picked(both, 4, "other") == []
    assert both.settings("m")["trace_level"] == ("TIMESTAMPS",)
    assert both.settings("other") == both.settings()


def test_what_a_model_does_not_set_follows_the_server() -> None:
    both = tracer()
    both.update({"trace_count": "5"}, "m")
    both.update({"trace_rate": "7", "trace_count": "9"})
    assert both.settings("m")["trace_rate"] == "7"
    assert both.settings("m")["trace_count"] == "5"
    both.update({"trace_count": None}, "m")
    assert both.settings("m") == both.settings()


def test_what_is_left_of_a_models_count_outlives_other_changes() -> None:
    both = tracer()
    both.update({"trace_count": "3"}, "m")
    assert picked(both, 2, "m") == [0, 1]
    both.update({"trace_rate": "1"})
    both.update({"log_frequency": "4"}, "m")
    assert picked(both, 5, "m") == [0]


def test_a_setting_taken_back_is_as_it_was_at_the_start() -> None:
    changed = tracer(TraceSettings(("TIMESTAMPS",), rate=3))
    changed.update({"trace_rate": "9", "trace_level": ["OFF"]})
    changed.update({"trace_rate": None, "trace_level": None})
    assert picked(changed, 3) == [2]


def test_a_change_that_is_refused_changes_nothing() -> None:
    unchanged = tracer()
    before = unchanged.settings()
    with pytest.raises(InvalidArgument):
        unchanged.update({"trace_rate": "5", "trace_count": "many"})
    assert unchanged.settings() == before


def test_a_level_needs_a_file() -> None:
    nowhere = Tracer(TraceConfig(), None)
    with pytest.raises(InvalidArgument, match="trace file name is not given"):
        nowhere.update({"trace_level": ["TIMESTAMPS"]})
    nowhere.update({"trace_level": ["OFF"], "trace_rate": "5"})


def test_a_trace_is_exported_once_by_the_settings_of_its_model() -> None:
    kept = Kept()
    both = tracer(exporter=kept)
    both.update({"log_frequency": "4"}, "m")
    trace = both.begin("m", {})
    assert trace
    trace.finish()
    trace.finish()
    assert [(model, settings.log_frequency) for model, settings in kept.traces] == [("m", 4)]


def test_a_trace_that_cannot_be_exported_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    class Full(Kept):
        def export(self, trace: Trace, settings: TraceSettings) -> None:
            raise OSError("no space left")

    trace = tracer(exporter=Full()).begin("m", {})
    assert trace
    trace.finish()
    assert "a trace is lost: no space left" in caplog.text


def test_with_opentelemetry_a_clients_trace_is_followed_at_any_rate() -> None:
    following = Tracer(read(OTLP), Kept())
    assert following.begin("m", {}) is None
    assert following.begin("m", {"traceparent": "00-1-2-01"})
    following.update({"trace_level": ["OFF"]})
    assert following.begin("m", {"traceparent": "00-1-2-01"}) is None


def test_with_opentelemetry_the_settings_are_others() -> None:
    following = Tracer(read([*OTLP, "opentelemetry,resource=service.name=x"]), Kept())
    assert following.settings() == {
        "trace_level": ("TIMESTAMPS",),
        "trace_rate": "0",
        "trace_count": "-1",
        "trace_mode": "opentelemetry",
        "url": "http://localhost:4318/v1/traces",
        "resource": "service.name=x",
        "bsp_max_queue_size": "2048",
        "bsp_schedule_delay": "5000",
        "bsp_max_export_batch_size": "512",
    }
    for changes in ({"log_frequency": "1"}, {"trace_level": ["TENSORS"]}):
        with pytest.raises(InvalidArgument, match="opentelemetry"):
            following.update(changes)


def test_a_queue_may_be_shorter_than_a_batch_is_by_default() -> None:
    pytest.importorskip("opentelemetry.sdk")
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http")
    open_tracer([*OTLP, "opentelemetry,bsp_max_queue_size=100"]).close()


def finished(tracer: Tracer, value: float = 1.5, error: str = "", model: str = "m") -> None:
    """Let one request for one number run through, or fail."""
    trace = tracer.begin(model, {})
    assert trace
    tensor = Tensor("x", Datatype.FP32, np.full((1, 2), value, np.float32))
    trace.mark("HTTP_RECV_START")
    trace.asked(InferenceRequest(model, (tensor,), id="seven"))
    if not error:
        timing = Timing(5, 2, 30, 4, 1, queued_at=trace.events[-1][1] + 1)
        trace.answered(InferenceResponse(model, "3", (tensor,), timing=timing))
    trace.ended(error)
    trace.finish()


def names(entries: list[Any]) -> list[str]:
    return [event["name"] for entry in entries for event in entry.get("timestamps", ())]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "trace.json"


def to_file(path: Path, **settings: Any) -> Tracer:
    return tracer(TraceSettings(**{"levels": ("TIMESTAMPS",), "rate": 1, **settings}), file(path))


def file(path: Path) -> TritonFile:
    return TritonFile(str(path))


def test_the_file_lists_what_happened_in_order(path: Path) -> None:
    writing = to_file(path)
    finished(writing)
    writing.close()
    about, *events = json.loads(path.read_text())
    assert about == {"id": 1, "model_name": "m", "model_version": 3, "request_id": "seven"}
    assert {event["id"] for event in events} == {1}
    times = [event["timestamps"][0]["ns"] for event in events]
    assert times == sorted(times)
    assert set(names(events)) == {
        "HTTP_RECV_START",
        "REQUEST_START",
        "QUEUE_START",
        "COMPUTE_START",
        "COMPUTE_INPUT_END",
        "COMPUTE_OUTPUT_START",
        "COMPUTE_END",
        "INFER_RESPONSE_COMPLETE",
        "REQUEST_END",
    }
    steps = dict(zip(names(events), times, strict=True))
    assert steps["COMPUTE_START"] - steps["QUEUE_START"] == 5
    assert steps["COMPUTE_INPUT_END"] - steps["COMPUTE_START"] == 2
    assert steps["COMPUTE_OUTPUT_START"] - steps["COMPUTE_INPUT_END"] == 30
    assert steps["COMPUTE_END"] - steps["COMPUTE_OUTPUT_START"] == 4


def test_what_failed_is_in_the_file_as_far_as_it_came(path: Path) -> None:
    writing = to_file(path)
    finished(writing, error="too late")
    writing.close()
    about, *events = json.loads(path.read_text())
    assert about["model_version"] == -1
    assert names(events) == ["HTTP_RECV_START", "REQUEST_START", "REQUEST_END"]


def test_tensors_are_in_the_file_where_they_are_asked_for(path: Path) -> None:
    writing = to_file(path, levels=("TENSORS",))
    finished(writing)
    writing.close()
    _, *entries = json.loads(path.read_text())
    tensor = {"name": "x", "data": "1.5,1.5", "shape": "1,2", "dtype": "FP32"}
    assert entries == [
        {"id": 1, "activity": "TENSOR_QUEUE_INPUT", "tensor": tensor},
        {"id": 1, "activity": "TENSOR_BACKEND_OUTPUT", "tensor": tensor},
    ]


def test_so_many_traces_make_a_file(path: Path) -> None:
    writing = to_file(path, log_frequency=2)
    for _ in range(5):
        finished(writing)
    writing.close()
    found = [
        {entry["id"] for entry in json.loads(Path(f"{path}.{index}").read_text())}
        for index in range(3)
    ]
    assert found == [{1, 2}, {3, 4}, {5}]


def test_a_changed_frequency_begins_another_file(path: Path) -> None:
    writing = to_file(path)
    finished(writing)
    writing.update({"log_frequency": "1"})
    finished(writing)
    assert {entry["id"] for entry in json.loads(Path(f"{path}.0").read_text())} == {2}
    writing.close()
    assert {entry["id"] for entry in json.loads(path.read_text())} == {1}


def test_models_with_files_of_their_own_length_lose_no_trace(path: Path) -> None:
    writing = to_file(path)
    writing.update({"log_frequency": "2"}, "other")
    for _ in range(3):
        finished(writing)
        finished(writing, model="other")
    writing.close()
    found = [
        {entry["id"] for entry in json.loads(each.read_text())}
        for each in (path, Path(f"{path}.0"), Path(f"{path}.1"))
    ]
    assert found == [{1, 3, 5}, {2, 4}, {6}]


def test_a_file_that_cannot_be_written_is_found_out_at_start(tmp_path: Path) -> None:
    with pytest.raises(ServingError, match=f"cannot write traces to {tmp_path}: Is a directory"):
        TritonFile(str(tmp_path))


def test_a_full_disk_costs_traces_and_no_more(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    full = tmp_path / "full.json"
    full.symlink_to("/dev/full")
    writing = to_file(full)
    writing.update({"log_frequency": "2"}, "other")
    finished(writing)
    finished(writing, model="other")
    writing.close()
    assert "traces are lost: [Errno 28] No space left on device" in caplog.text
    part = json.loads(Path(f"{full}.0").read_text())
    assert {entry["id"] for entry in part} == {2}
