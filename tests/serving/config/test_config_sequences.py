"""What `sequence_batching` says, and what Triton refuses in it."""

import pytest

from serving.config import ControlKind, ModelConfig, Source, complete, parse, resolve
from serving.dtypes import Datatype
from serving.errors import LoadFailed
from serving.types import BatchPolicy, QueuePolicy, SequencePolicy, Signature, TensorSpec

FP32, INT32, INT64 = Datatype.FP32, Datatype.INT32, Datatype.INT64

SIGNATURE = Signature(
    inputs=(
        TensorSpec("x", FP32, (-1, 2)),
        TensorSpec("start", INT32, (-1, 1)),
        TensorSpec("id", Datatype.UINT64, (-1, 1)),
        TensorSpec("past", INT64, (-1, 3)),
    ),
    outputs=(TensorSpec("y", FP32, (-1, 2)), TensorSpec("next", INT64, (-1, 3))),
)


def control(rest: str, name: str = "start", kind: str = "CONTROL_SEQUENCE_START") -> str:
    return f'control_input {{ name: "{name}" control {{ kind: {kind} {rest} }} }}\n'


START = control("int32_false_true: [0, 1]")
ID = control("data_type: TYPE_UINT64", "id", "CONTROL_SEQUENCE_CORRID")
STATE = 'state { input_name: "past" output_name: "next" data_type: TYPE_INT64 dims: 3 %s }\n'
CONTROLS = START + ID
WHOLE = CONTROLS + STATE % ""


def completed(batching: str, size: int = 4, signature: Signature = SIGNATURE) -> ModelConfig:
    text = f'backend: "onnxruntime" max_batch_size: {size}\nsequence_batching {{\n{batching} }}'
    source = Source("m/config.pbtxt", text)
    resolved = resolve(parse(text, source.name), "m", source, files=["model.onnx"])
    return complete(resolved, signature, source)


def refusal(batching: str, size: int = 4) -> str:
    with pytest.raises(LoadFailed) as refused:
        completed(batching, size)
    return refused.value.message


def test_clients_see_neither_controls_nor_states() -> None:
    config = completed(WHOLE)
    assert [spec.name for spec in config.inputs] == ["x"]
    assert [spec.name for spec in config.outputs] == ["y"]
    assert [(spec.name, spec.dims) for spec in config.hidden_inputs] == [
        ("start", (1,)),
        ("id", (1,)),
        ("past", (3,)),
    ]


def test_what_is_left_open_is_filled_in_as_triton_does() -> None:
    direct, oldest = completed(WHOLE), completed("oldest {}\n" + WHOLE)
    assert direct.proto.sequence_batching.max_sequence_idle_microseconds == 1_000_000
    assert list(oldest.proto.sequence_batching.oldest.preferred_batch_size) == [4]
    assert not direct.proto.HasField("dynamic_batching")


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        ("", SequencePolicy(4, 10**9, 50)),
        (
            "max_sequence_idle_microseconds: 7 direct { max_queue_delay_microseconds: 5 "
            "minimum_slot_utilization: 0.5 }",
            SequencePolicy(4, 7000, 50, max_delay=5000, utilization=0.5),
        ),
        (
            "oldest { max_candidate_sequences: 9 preferred_batch_size: [ 3, 2 ] "
            "max_queue_delay_microseconds: 5 preserve_ordering: true }",
            SequencePolicy(
                9,
                10**9,
                50,
                merge=BatchPolicy(
                    4,
                    QueuePolicy(50),
                    preferred=(2, 3),
                    max_delay=5000,
                ),
            ),
        ),
    ],
)
def test_the_policy_is_the_configurations(text: str, policy: SequencePolicy) -> None:
    assert completed(text + WHOLE).sequence_policy(default_max_queue=50) == policy


def test_controls_are_read_with_their_values() -> None:
    start, correlation = completed(WHOLE).controls
    assert (start.name, start.kind, start.datatype) == ("start", ControlKind.START, INT32)
    assert (start.false, start.true) == (0, 1)
    assert (correlation.kind, correlation.datatype) == (ControlKind.CORRID, Datatype.UINT64)


@pytest.mark.parametrize(
    ("initial", "dims", "file"),
    [
        ("", (3,), ""),
        ('initial_state { name: "a" data_type: TYPE_INT64 dims: 3 zero_data: true }', (3,), ""),
        ('initial_state { name: "a" data_type: TYPE_INT64 dims: 3 data_file: "f" }', (3,), "f"),
    ],
)
def test_a_state_begins_with_zeros_or_with_a_file(
    initial: str, dims: tuple[int, ...], file: str
) -> None:
    [state] = completed(CONTROLS + STATE % initial).states
    assert (state.input_name, state.output_name, state.datatype) == ("past", "next", INT64)
    assert (state.initial.dims, state.initial.file) == (dims, file)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "oldest { preferred_batch_size: 0 }" + WHOLE,
            "sequence batching preferred batch size must be positive, got 0",
        ),
        (
            "oldest { preferred_batch_size: 5 }" + WHOLE,
            "sequence batching preferred batch size must be <= max batch size, got 5",
        ),
        ("oldest { max_candidate_sequences: -1 }" + WHOLE, "must not be negative, got -1"),
        (
            "direct { minimum_slot_utilization: 1.5 }" + WHOLE,
            "sequence batching minimum slot utilization must be in range (0.0, 1.0], got 1.5",
        ),
        (
            control("int32_false_true: [0, 1]", name=""),
            "sequence batching control tensor must have a name for m",
        ),
        (
            START + control("data_type: TYPE_UINT64", kind="CONTROL_SEQUENCE_CORRID"),
            "m/config.pbtxt:4: sequence batching control tensor 'start' is specified for multiple "
            "control kinds for m",
        ),
        (
            START + control("int32_false_true: [0, 1]", name="other"),
            "sequence batching specifies multiple CONTROL_SEQUENCE_START tensors for m",
        ),
        ('control_input { name: "start" }', "'start' must have a control with a kind"),
        (
            control(""),
            "sequence batching must specify either 'int32_false_true', 'fp32_false_true' or "
            "'bool_false_true' for CONTROL_SEQUENCE_START for m",
        ),
        (
            control("int32_false_true: [0, 1] fp32_false_true: [0, 1]"),
            "sequence batching specifies more than one from 'int32_false_true', "
            "'fp32_false_true' and 'bool_false_true' for CONTROL_SEQUENCE_START for m",
        ),
        (
            control("bool_false_true: [true]"),
            "sequence batching control 'bool_false_true' must have exactly 2 entries for "
            "CONTROL_SEQUENCE_START for m",
        ),
        (
            control(
                "data_type: TYPE_UINT64 int32_false_true: [0, 1]", "id", "CONTROL_SEQUENCE_CORRID"
            ),
            "sequence batching must not specify either 'int32_false_true', 'fp32_false_true' or "
            "'bool_false_true' for CONTROL_SEQUENCE_CORRID for m",
        ),
        (
            control("data_type: TYPE_FP32", "id", "CONTROL_SEQUENCE_CORRID"),
            "unexpected data type for control CONTROL_SEQUENCE_CORRID for m. Allowed data types",
        ),
        (control("kind: 9"), "Kind has no value 9"),
        (
            CONTROLS + STATE % "use_growable_memory: true",
            "'use_growable_memory' can only work with KIND_GPU model instances right now",
        ),
        (
            CONTROLS + (STATE % "") * 2,
            "m/config.pbtxt:6: State input name 'past' specified more than once",
        ),
        (
            CONTROLS + 'state { input_name: "past" output_name: "next" dims: 3 }',
            "state input 'past' must specify 'data_type'",
        ),
        (CONTROLS + 'state { input_name: "past" }', "must have an input_name and an output_name"),
        (
            CONTROLS + STATE % "dims: 0",
            "state input 'past' dimension must be integer >= 1, or -1",
        ),
        (
            CONTROLS + STATE % "initial_state {} initial_state {}",
            "must contain exactly one or zero element. Found '2' elements.",
        ),
        (
            CONTROLS + STATE % "initial_state { dims: 3 zero_data: true }",
            "The data type used for 'initial_state' field of state 'past' does not match",
        ),
        (
            CONTROLS + STATE % "initial_state { data_type: TYPE_INT64 dims: 3 zero_data: true }",
            "Field 'name' must be set when using initial_state for state input 'past'",
        ),
        (
            CONTROLS + STATE % 'initial_state { name: "a" data_type: TYPE_INT64 zero_data: true }',
            "Number of dimensions in 'initial_state' doesn't match the size of 'state' dimensions "
            "for state input 'past'. 0 != 1",
        ),
        (
            CONTROLS
            + STATE % 'initial_state { name: "a" data_type: TYPE_INT64 dims: -1 zero_data: true }',
            "'initial_state' field for state input 'past' contains variable dimensions",
        ),
        (
            CONTROLS
            + STATE % 'initial_state { name: "a" data_type: TYPE_INT64 dims: 2 zero_data: true }',
            "'initial_state' dim for input name 'past' doesn't match 'state' dim description. 2 !=",
        ),
        (
            CONTROLS + STATE % 'initial_state { name: "a" data_type: TYPE_INT64 dims: 3 }',
            "initial_state setting expects state input 'past' to have state_data set",
        ),
        (
            CONTROLS
            + STATE % 'initial_state { name: "a" data_type: TYPE_INT64 dims: 3 data_file: "../a" }',
            "'../a' leaves the model's folder initial_state",
        ),
    ],
)
def test_what_triton_refuses_is_refused_in_its_words(text: str, message: str) -> None:
    assert message in refusal(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            WHOLE + control("bool_false_true: [false, true]", "end", "CONTROL_SEQUENCE_END"),
            "m/config.pbtxt:6: configuration specified sequence control 'end', but model does not "
            "provide that input",
        ),
        (
            WHOLE + control("fp32_false_true: [0, 1]", "x", "CONTROL_SEQUENCE_END"),
            "sequence control 'x' in model has dims [2] but dims [1] is expected",
        ),
        (
            ID + STATE % "" + control("fp32_false_true: [0, 1]"),
            "sequence control 'start', the model expects data-type TYPE_INT32 but the model "
            "configuration specifies data-type TYPE_FP32",
        ),
        (
            CONTROLS + (STATE % "").replace("next", "nothing"),
            "unexpected inference output 'nothing', allowed outputs are: y, next",
        ),
        (
            CONTROLS + (STATE % "").replace("INT64", "INT32"),
            "configuration expects datatype TYPE_INT32 for input state 'past', model provides "
            "TYPE_INT64",
        ),
        (
            CONTROLS + (STATE % "").replace("dims: 3", "dims: 4"),
            "input state 'past': the model expects shape [-1,3] but the model configuration "
            "specifies shape [-1,4]",
        ),
    ],
)
def test_controls_and_states_must_be_the_graphs(text: str, message: str) -> None:
    assert message in refusal(text)


def test_an_input_that_nobody_sends_is_missed() -> None:
    text = (
        'backend: "onnxruntime" max_batch_size: 4\n'
        'input { name: "x" data_type: TYPE_FP32 dims: 2 }\n'
        'output { name: "y" data_type: TYPE_FP32 dims: 2 }\n'
        f"sequence_batching {{ {CONTROLS} }}"
    )
    source = Source("m/config.pbtxt", text)
    resolved = resolve(parse(text, source.name), "m", source, files=["model.onnx"])
    with pytest.raises(LoadFailed, match=r"expects 3 inputs, model provides 4: add 'past'"):
        complete(resolved, SIGNATURE, source)


def test_a_model_with_sequences_cannot_be_cached() -> None:
    text = 'backend: "onnxruntime" response_cache { enable: true } sequence_batching {}'
    source = Source("m/config.pbtxt", text)
    with pytest.raises(LoadFailed, match="does not currently support model m with sequence"):
        resolve(parse(text, source.name), "m", source, files=["model.onnx"])
