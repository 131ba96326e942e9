"""What Triton refuses of an ensemble, in its own words, and what it takes."""

import pytest

from serving.config import (
    ModelConfig,
    Proto,
    Source,
    Step,
    complete_ensemble,
    dependencies,
    parse,
    resolve,
    step_faults,
)
from serving.errors import LoadFailed
from tests.ensembles import TENSORS, step
from tests.ensembles import ensemble as config

CHAIN = (step("a", "x=in", "y=mid"), step("b", "x=mid", "y=out"))


def resolved(text: str) -> Proto:
    source = Source("e/config.pbtxt", text)
    return resolve(parse(text, source.name), "e", source)


def completed(text: str) -> ModelConfig:
    return complete_ensemble(resolved(text), Source("e/config.pbtxt", text))


def failure_of(text: str) -> str:
    with pytest.raises(LoadFailed) as failure:
        resolved(text)
    return failure.value.message


def test_the_steps_are_read_with_the_version_that_each_asks_for() -> None:
    pinned = step("b", "x=mid", "y=out").replace("-1", "3")

    read = completed(config(CHAIN[0], pinned))

    assert read.is_ensemble
    assert read.platform == "ensemble"
    assert read.steps == (
        Step("a", "", {"x": "in"}, {"y": "mid"}),
        Step("b", "3", {"x": "mid"}, {"y": "out"}),
    )


def test_an_ensemble_has_no_instances_and_serves_its_latest_version() -> None:
    proto = resolved(config(*CHAIN))

    assert not proto.instance_group
    assert not proto.backend
    assert proto.version_policy.latest.num_versions == 1


def test_an_ensembles_own_reshape_is_kept_for_its_tensors() -> None:
    text = config(
        step("a", "x=in", "y=out"),
        tensors="""\
input { name: "in" data_type: TYPE_FP32 dims: [2, 2] reshape { shape: 4 } }
output { name: "out" data_type: TYPE_FP32 dims: [2, 2] reshape { shape: 4 } }
""",
    )

    read = completed(text)

    assert read.input_reshapes["in"].to_graph((2, 2)) == (4,)
    assert read.output_reshapes["out"].to_client((4,)) == (2, 2)


def test_an_ensemble_depends_on_each_of_its_models_once() -> None:
    text = config(CHAIN[0], step("b", "x=mid", "y=low"), step("a", "x=low", "y=out"))

    assert dependencies(parse(text, "e")) == ("a", "b")
    assert dependencies(parse(TENSORS, "m")) == ()
    assert dependencies(None) == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            f'platform: "ensemble"\n{TENSORS}',
            "e/config.pbtxt:1: ensemble scheduling must be set for ensemble e whose platform is "
            "ensemble",
        ),
        (
            config(*CHAIN, head=""),
            "e/config.pbtxt:4: ensemble scheduling cannot be set for model 'e' whose platform is "
            "not ensemble",
        ),
        (
            config(*CHAIN, head='platform: "ensemble" backend: "onnxruntime"'),
            "e/config.pbtxt:1: Ensemble model 'e' must have platform type 'ensemble' and empty "
            "backend type",
        ),
        (
            config(*CHAIN, tail="instance_group { count: 2 }"),
            "e/config.pbtxt:8: instance group should not be specified for ensemble 'e'",
        ),
        (
            config(*CHAIN, tail="optimization { }"),
            "e/config.pbtxt:8: optimization should not be specified for ensemble 'e'",
        ),
        (
            config(*CHAIN, tail='model_warmup { name: "w" }'),
            "e/config.pbtxt:8: model_warmup can not be specified for ensemble 'e'",
        ),
        (
            config(
                *CHAIN,
                tail='parameters { key: "latency_objective_ms" value { string_value: "50" } }',
            ),
            "e/config.pbtxt:8: parameter 'latency_objective_ms' has no effect on ensemble 'e'",
        ),
        (config(), "e/config.pbtxt:4: must specify 'step' for ensemble 'e'"),
        (
            config(step("", "x=in", "y=out")),
            "e/config.pbtxt:5: must specify 'model_name' in step 0 of ensemble 'e'",
        ),
        (
            config(CHAIN[0], step("b", "", "y=out")),
            "e/config.pbtxt:6: must specify 'input_map' in step 1 of ensemble 'e'",
        ),
        (
            config(step("a", "x=in", "")),
            "e/config.pbtxt:5: must specify 'output_map' in step 0 of ensemble 'e'",
        ),
        (
            config(step("a", "x=in", "y=out"), step("b", "x=in", "y=out")),
            "e/config.pbtxt:6: ensemble tensor 'out' can appear in an output map only once for "
            "ensemble 'e' step 1",
        ),
        (
            config(
                *CHAIN,
                tensors=TENSORS + 'input { name: "two" data_type: TYPE_FP32 dims: 4 }\n',
            ),
            "e/config.pbtxt:4: ensemble input 'two' for ensemble 'e' is not used",
        ),
        (
            config(step("a", "x=in", "y=other")),
            "e/config.pbtxt:3: ensemble output 'out' for ensemble 'e' is not used",
        ),
        (
            config(*CHAIN, step("c", "x=nowhere", "y=also")).replace('"out" data', '"also" data'),
            "e/config.pbtxt:3: output 'also' for ensemble 'e' is not written: at least one of its "
            "depending tensors, 'nowhere', is not connected",
        ),
        (
            config(
                step("a", "x=out", "y=mid"), step("b", "x=mid", "y=out"), step("c", "x=in", "y=z")
            ),
            "e/config.pbtxt:3: output 'out' for ensemble 'e' is not written",
        ),
        (
            config(step("a", "x=in", "y=out"), step("b", "x=in", "y=mid")),
            "e/config.pbtxt:6: ensemble tensor 'mid' is unused in ensemble 'e': no step reads it",
        ),
        (
            config(step("a", "x=in", "y=out"), step("b", "x=p", "y=q"), step("c", "x=q", "y=p")),
            "e/config.pbtxt:6: ensemble tensor 'q' is unused in ensemble 'e': no steps lead to it",
        ),
        (
            config(*CHAIN, tail="model_transaction_policy { decoupled: true }"),
            "ensemble 'e' cannot be decoupled",
        ),
        (
            config(step("a", "x=in", "y=out", more='model_namespace: "n"')),
            "e/config.pbtxt:5: 'ensemble_scheduling.step.model_namespace' is not honoured",
        ),
    ],
)
def test_a_configuration_that_makes_no_ensemble_is_refused(text: str, message: str) -> None:
    assert message in failure_of(text)


def test_an_output_may_be_an_input_that_is_passed_on() -> None:
    passed = 'output { name: "in" data_type: TYPE_FP32 dims: 4 }\n'

    assert len(completed(config(*CHAIN, tensors=TENSORS + passed)).outputs) == 2


MODEL = """\
name: "{name}" max_batch_size: {batch}
input {{ name: "x" data_type: TYPE_{kind} dims: {dims} }}
output {{ name: "y" data_type: TYPE_{kind} dims: {dims} }}
"""


def model(name: str = "a", batch: int = 8, kind: str = "FP32", dims: str = "[4]") -> Proto:
    return parse(MODEL.format(name=name, batch=batch, kind=kind, dims=dims), name)


def faults(text: str, *models: Proto) -> list[str]:
    return [fault.message for fault in step_faults(resolved(text), models)]


BATCHING = "max_batch_size: 8\n" + TENSORS
ONE = step("a", "x=in", "y=out")


@pytest.mark.parametrize(
    ("text", "models"),
    [
        (config(*CHAIN, tensors=BATCHING), [model("a"), model("b", batch=16)]),
        # The batch dimension may be stated by the one and implied by the other.
        (config(ONE, tensors=BATCHING), [model(batch=0, dims="[-1, 4]")]),
        (config(ONE, tensors=TENSORS.replace("4", "[-1, 4]")), [model()]),
        # One row goes to a model that takes no batch; whether it is one is seen at each request.
        (config(ONE, tensors=BATCHING), [model(batch=0)]),
        (config(ONE), [model()]),
        (config(ONE, tensors=BATCHING), [model(dims="[-1]")]),
    ],
)
def test_models_that_fit_one_another_make_an_ensemble(text: str, models: list[Proto]) -> None:
    assert faults(text, *models) == []


@pytest.mark.parametrize(
    ("text", "models", "message"),
    [
        (
            config(ONE, tensors=BATCHING),
            [model(batch=4)],
            "ensemble e allows maximum batch size 8, but it contains model a which only allows "
            "maximum batch size to be 4",
        ),
        (
            config(step("a", "z=in", "y=out")),
            [model()],
            "in ensemble e, ensemble tensor in is mapping to non-existing input z in model a",
        ),
        (
            config(step("a", "z=in", "y=out")),
            [model()],
            "in ensemble e, input x in model a is not mapped to any ensemble tensors",
        ),
        (
            config(step("a", "x=in", "z=out")),
            [model()],
            "in ensemble e, ensemble tensor out is mapped from non-existing output z in model a",
        ),
        (
            config(ONE, tensors=BATCHING),
            [model(kind="INT32")],
            "in ensemble e, ensemble tensor in: inconsistent data type: TYPE_FP32 is inferred from "
            "model e while TYPE_INT32 is inferred from model a",
        ),
        (
            config(*CHAIN),
            [model(), model("b", kind="INT64")],
            "in ensemble e, ensemble tensor mid: inconsistent data type: TYPE_FP32 is inferred "
            "from model a while TYPE_INT64 is inferred from model b",
        ),
        (
            config(ONE, tensors=BATCHING),
            [model(dims="[3]")],
            "in ensemble e, ensemble tensor in: inconsistent shape: [-1,4] is inferred from model "
            "e while [-1,3] is inferred from model a",
        ),
        (
            config(ONE),
            [model(batch=0, dims="[2, 4]")],
            "in ensemble e, ensemble tensor out: inconsistent shape: [4] is inferred from model e "
            "while [2,4] is inferred from model a",
        ),
    ],
)
def test_models_that_do_not_fit_one_another_are_refused(
    text: str, models: list[Proto], message: str
) -> None:
    assert any(fault.startswith(message) for fault in faults(text, *models))


def test_an_optional_input_of_a_model_need_not_be_mapped() -> None:
    optional = model(batch=0)
    optional.input.add(name="bias", data_type="TYPE_FP32", dims=[4], optional=True)

    assert faults(config(ONE), optional) == []


def test_an_ensemble_of_a_decoupled_model_is_refused() -> None:
    decoupled = model()
    decoupled.model_transaction_policy.decoupled = True

    [message] = faults(config(ONE), decoupled)

    assert "has a step of model 'a', which is decoupled" in message


def test_a_reshaped_tensor_of_the_ensemble_counts_in_its_new_shape() -> None:
    tensors = TENSORS.replace("dims: 4", "dims: [2, 2] reshape { shape: 4 }")

    assert faults(config(ONE, tensors=tensors), model()) == []


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("sequence_batching { }", "sequence batching scheduler"),
        ("model_transaction_policy { decoupled: true }", "'decoupled' transaction policy"),
    ],
)
def test_answers_that_depend_on_more_than_the_request_are_not_cached(
    text: str, reason: str
) -> None:
    message = failure_of(f'backend: "onnxruntime" response_cache {{ enable: true }} {text}')

    assert (
        f"Response Cache does not currently support model e with {reason}. Please disable the "
        "response cache." in message
    )
