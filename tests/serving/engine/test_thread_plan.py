"""The threads that there are for models, divided among a model's sessions."""

from pathlib import Path

import pytest

from serving.config import parse, resolve
from serving.config.source import Source
from serving.dtypes import Datatype
from serving.engine.backends.ort import OrtBackend
from serving.engine.backends.thread_plan import ThreadPlan, thread_plan
from tests.serving import graphs

ORT = 'backend: "onnxruntime"\n'
SHARED = (
    "instance_group { count: 4 }\n"
    'parameters { key: "share_session_between_instances" value { string_value: "true" } }'
)
THREE = 'parameters { key: "intra_op_thread_count" value { string_value: "3" } }'


def plan_of(text: str, budget: int) -> ThreadPlan:
    resolved = resolve(parse(text, "c"), "m", Source("c", text), files=("model.onnx",))
    return thread_plan(resolved, budget)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "1 instance x 7 threads"),
        ("instance_group { count: 2 }", "2 instances x 3 threads"),
        ("instance_group { count: 1 } instance_group { count: 2 }", "3 instances x 2 threads"),
        ("instance_group { count: 9 }", "9 instances x 1 thread"),
        ("instance_group { count: 1 } instance_group { passive: true }", "1 instance x 7 threads"),
        (SHARED, "4 instances on 1 session x 7 threads"),
        (f"instance_group {{ count: 2 }} {THREE}", "2 instances x 3 threads"),
    ],
)
def test_sessions_that_run_at_the_same_time_share_the_budget(text: str, told: str) -> None:
    assert str(plan_of(ORT + text, 7)) == told


def test_what_the_configuration_says_holds_whatever_the_budget() -> None:
    assert plan_of(ORT + THREE, 1) == ThreadPlan(1, 1, share=1, threads=3)


def test_other_backends_compute_in_the_instances_own_threads() -> None:
    text = 'backend: "identity" instance_group { count: 2 }'
    assert str(plan_of(text, 7)) == "2 instances x 1 thread"


def test_a_session_is_opened_with_its_share(tmp_path: Path) -> None:
    made = graphs.model({"x": (Datatype.FP32, ["n", 2])}, {"y": (Datatype.FP32, ["n", 2])})
    graphs.write(made, tmp_path / "model.onnx")
    text = ORT + "instance_group { count: 2 }"
    config = resolve(parse(text, "c"), "m", Source("c", text), files=("model.onnx",))
    session = OrtBackend(threads=7).open(config, tmp_path)
    assert session._session.get_session_options().intra_op_num_threads == 3
