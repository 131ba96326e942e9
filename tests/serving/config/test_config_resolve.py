import pytest

from serving.config import Proto, Source, parse, resolve
from serving.config.honoured import HONOURED
from serving.devices import NONE, Gpus
from serving.errors import LoadFailed

ONE_GPU = Gpus((0,))
IO = """
input { name: "x" data_type: TYPE_FP32 dims: 2 }
output { name: "y" data_type: TYPE_FP32 dims: 2 }
"""


def resolved(
    text: str | None, files: tuple[str, ...] = ("model.onnx",), gpus: Gpus = NONE
) -> Proto:
    source = Source("m/config.pbtxt", text or "")
    proto = None if text is None else parse(text, source.name)
    return resolve(proto, "m", source, files=files, gpus=gpus)


def failure_of(text: str, **options: object) -> str:
    with pytest.raises(LoadFailed) as failure:
        resolved(text, **options)  # type: ignore[arg-type]
    return failure.value.message


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        'backend: "onnxruntime"',
        'platform: "onnxruntime_onnx"',
        'default_model_filename: "model.onnx"',
        'name: "m"',
    ],
)
def test_the_backend_follows_from_whatever_names_it(text: str | None) -> None:
    proto = resolved(text)

    assert (proto.name, proto.backend, proto.platform, proto.default_model_filename) == (
        "m",
        "onnxruntime",
        "onnxruntime_onnx",
        "model.onnx",
    )


def test_what_is_given_is_kept() -> None:
    proto = resolved('backend: "onnxruntime" default_model_filename: "sub/net.onnx"', files=())

    assert proto.default_model_filename == "sub/net.onnx"


def test_a_backend_of_our_own_needs_no_platform() -> None:
    assert resolved(f'backend: "identity" {IO}', files=()).platform == ""


def test_the_given_message_is_not_changed() -> None:
    proto = parse("", "c")

    resolve(proto, "m", Source("c"), files=["model.onnx"])

    assert proto == parse("", "c")


@pytest.mark.parametrize(
    ("text", "files", "message"),
    [
        ("", (), "m/config.pbtxt: could not determine backend for model 'm'"),
        ("", ("model.plan",), "the embedded engine has no backend 'tensorrt'; expected one of"),
        ("\nbackend: 'onnxrumtime'", (), "pbtxt:2: the embedded engine has no backend 'onnxrumti"),
        ("backend: 'onnxrumtime'", (), "did you mean 'onnxruntime'?"),
        ("platform: 'onnxruntime'", (), "unexpected platform type 'onnxruntime'; did you mean"),
        (
            "backend: 'onnxruntime'\nplatform: 'tensorrt_plan'",
            (),
            "pbtxt:2: unexpected 'platform' and 'backend' pair, got:tensorrt_plan, onnxruntime",
        ),
    ],
)
def test_a_backend_that_is_unknown_or_ambiguous_is_refused(
    text: str, files: tuple[str, ...], message: str
) -> None:
    assert message in failure_of(text, files=files)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('\n\nname: "other"', "pbtxt:3: unexpected directory name 'm' for model 'other'"),
        ("max_batch_size: -1", "pbtxt:1: 'max_batch_size' must be non-negative value, got -1"),
        (
            "max_batch_size: 8\ndynamic_batching {\n preferred_batch_size: [ 4, 9 ] }",
            "pbtxt:3: dynamic batching preferred size must be <= max batch size, got 9",
        ),
        (
            "dynamic_batching { preferred_batch_size: 2 }",
            "preferred size must be <= max batch size, got 2 with max_batch_size: 0",
        ),
        (
            "max_batch_size: 8 dynamic_batching { preferred_batch_size: 0 }",
            "dynamic batching preferred size must be positive, got 0",
        ),
        (
            "dynamic_batching {\n priority_levels: 2 }",
            "default priority level must be in range [1, 2], got 0",
        ),
        (
            "dynamic_batching { priority_levels: 2\n default_priority_level: 3 }",
            "pbtxt:2: default priority level must be in range [1, 2], got 3",
        ),
        (
            "dynamic_batching { priority_levels: 2 default_priority_level: 1\n"
            "priority_queue_policy { key: 3 value {} } }",
            "pbtxt:2: priority queue policy must have priority level in range [1, 2], got 3",
        ),
        (
            "dynamic_batching { preserve_ordering: true\n priority_levels: 2 "
            "default_priority_level: 1 }",
            "pbtxt:2: Only one priority level is allowed when 'preserve_ordering' is true",
        ),
        (
            "dynamic_batching { preserve_ordering: true\n default_queue_policy {\n"
            "timeout_action: DELAY default_timeout_microseconds: 1 } }",
            "pbtxt:3: Queue policy can not have DELAY as timeout action when 'preserve_ordering'",
        ),
        (
            "dynamic_batching { preserve_ordering: true priority_levels: 1\n"
            "default_priority_level: 1 priority_queue_policy { key: 1 value {\n"
            "timeout_action: DELAY default_timeout_microseconds: 1 } } }",
            "Queue policy can not have DELAY as timeout action when 'preserve_ordering'",
        ),
        (
            "version_policy { latest { num_versions: 0 } }",
            "at least one version must be available under the version policy",
        ),
        (
            "instance_group { kind: KIND_CPU }\ninstance_group { kind: KIND_GPU }",
            "pbtxt:2: instance group m_1 of model m has kind KIND_GPU but no GPUs are available",
        ),
        ('default_model_filename: "../x.onnx"', "'../x.onnx' leaves the version's folder"),
        ('default_model_filename: "/x.onnx"', "'/x.onnx' leaves the version's folder"),
        (
            'backend: "onnxruntime"\noutput { name: "y"\n label_filename: "../../etc/passwd" }',
            "pbtxt:3: '../../etc/passwd' leaves the model's folder",
        ),
        (
            'parameters { key: "execution_mode" value { string_value: "2" } }',
            "parameter 'execution_mode' is '2', expected 0 (sequential) or 1 (parallel)",
        ),
        (
            '\nparameters { key: "intra_op_thread_count" value { string_value: "all" } }',
            "pbtxt:2: parameter 'intra_op_thread_count' is 'all', expected a whole number",
        ),
        (
            'parameters { key: "intra_op_thread_count" value { string_value: "9999999999" } }',
            "expected a whole number up to 1024",
        ),
        (
            'parameters { key: "reject_non_finite_inputs" value { string_value: "ja" } }',
            "parameter 'reject_non_finite_inputs' is 'ja', expected true or false",
        ),
        (
            'parameters { key: "accelerator_tolerance" value { string_value: "1%" } }',
            "parameter 'accelerator_tolerance' is '1%', expected a number from 0 to below 1",
        ),
        (
            'parameters { key: "latency_objective_ms" value { string_value: "0" } }',
            "parameter 'latency_objective_ms' is '0', expected a number of milliseconds above 0",
        ),
        (
            'parameters { key: "latency_objective_ms" value { string_value: "1e-7" } }',
            "parameter 'latency_objective_ms' is '1e-7', expected a number of milliseconds above 0",
        ),
        (
            'parameters { key: "latency_objective_ms" value { string_value: "1e305" } }',
            "is '1e305', expected a number of milliseconds above 0",
        ),
        (
            'parameters { key: "latent" value { string_value: "uniform" } }',
            "parameter 'latent' is 'uniform', expected normal",
        ),
        (
            'parameters { key: "memory.enable_memory_arena_shrinkage" '
            'value { string_value: "cuda:0" } }',
            "is 'cuda:0', expected cpu:0, gpu:N, or both with a semicolon in between",
        ),
        (
            'parameters { key: "enable_mem_arena" value { string_value: "0" } }\n'
            'parameters { key: "memory.enable_memory_arena_shrinkage" '
            'value { string_value: "cpu:0" } }',
            "pbtxt:2: parameter 'memory.enable_memory_arena_shrinkage' has no arena to shrink",
        ),
        (
            "optimization { execution_accelerators {\n"
            'gpu_execution_accelerator { name: "openvino" } } }',
            "pbtxt:2: unknown Execution Accelerator 'openvino' is requested: write tensorrt or",
        ),
        (
            'optimization { execution_accelerators { cpu_execution_accelerator { name: "mkl" } } }',
            "unknown Execution Accelerator 'mkl' is requested: write openvino",
        ),
        (
            "optimization { execution_accelerators { cpu_execution_accelerator {\n"
            'name: "openvino" parameters { key: "a" value: "b" } } } }',
            "openvino takes no parameters",
        ),
        (
            "instance_group { count: 1 }\ninstance_group { count: 100000000 }",
            "pbtxt:1: 100000001 instances are asked for, each with memory of its own: write at "
            "most 1024",
        ),
        (
            "instance_group { passive: true }\ninstance_group { passive: true }",
            "pbtxt:1: every instance group is passive",
        ),
        ("input { data_type: 99 }", "DataType has no value 99"),
        (
            "model_warmup {\n inputs { key: 'x' value { data_type: 99 } } }",
            "pbtxt:2: DataType has no value 99",
        ),
    ],
)
def test_what_triton_refuses_is_refused_with_the_line_and_the_cure(text: str, message: str) -> None:
    assert message in failure_of(text)


@pytest.mark.parametrize(
    ("text", "field"),
    [
        (
            "sequence_batching { iterative_sequence: true }",
            "sequence_batching.iterative_sequence",
        ),
        (
            'ensemble_scheduling { step { model_namespace: "a" } }',
            "ensemble_scheduling.step.model_namespace",
        ),
        ("input { is_shape_tensor: true }", "input.is_shape_tensor"),
        ("instance_group { host_policy: 'a' }", "instance_group.host_policy"),
        ("optimization { cuda { graphs: true } }", "optimization.cuda.graphs"),
    ],
)
def test_a_field_that_is_not_honoured_is_refused_by_name(text: str, field: str) -> None:
    assert f"m/config.pbtxt:2: '{field}' is not honoured" in failure_of("\n" + text)


@pytest.mark.parametrize(
    "text",
    [
        "response_cache { enable: false }",
        "model_transaction_policy { decoupled: false }",
        "optimization { cuda { graphs: false } }",
        "input { allow_ragged_batch: false }",
        # Concerns instances on GPUs, of which there are none.
        'optimization { execution_accelerators { gpu_execution_accelerator { name: "cuda" } } }',
        'parameters { key: "anything" value { string_value: "at all" } }',
    ],
)
def test_a_field_that_says_the_default_is_no_reason_to_refuse(text: str) -> None:
    resolved(text)


def test_the_table_of_honoured_fields_names_fields_that_exist() -> None:
    for path in HONOURED:
        descriptor = parse("", "c").DESCRIPTOR
        for name in path.split("."):
            assert name in descriptor.fields_by_name, path
            descriptor = descriptor.fields_by_name[name].message_type


def test_every_fault_is_told_at_once() -> None:
    message = failure_of('name: "x"\nmax_batch_size: -1\ninstance_group { gpus: 0 }')

    assert [line.split(": ")[0] for line in message.splitlines()] == [
        "m/config.pbtxt:1",
        "m/config.pbtxt:2",
        "m/config.pbtxt:3",
    ]


@pytest.mark.parametrize(
    ("text", "gpus", "groups"),
    [
        ("", NONE, [("m", "KIND_CPU", 1)]),
        ("", ONE_GPU, [("m", "KIND_GPU", 1)]),
        ("instance_group { kind: KIND_CPU count: 3 }", ONE_GPU, [("m_0", "KIND_CPU", 3)]),
        ("instance_group { kind: KIND_CPU count: -3 }", ONE_GPU, [("m_0", "KIND_CPU", 1)]),
        ("instance_group { kind: KIND_MODEL }", NONE, [("m_0", "KIND_MODEL", 1)]),
        ("instance_group { kind: KIND_GPU }", ONE_GPU, [("m_0", "KIND_GPU", 1)]),
        (
            'instance_group { name: "a" } instance_group { count: 2 }',
            NONE,
            [("a", "KIND_CPU", 1), ("m_1", "KIND_CPU", 2)],
        ),
    ],
)
def test_instances_are_named_counted_and_placed(
    text: str, gpus: Gpus, groups: list[tuple[str, str, int]]
) -> None:
    proto = resolved(text, gpus=gpus)

    kinds = proto.DESCRIPTOR.fields_by_name["instance_group"].message_type.enum_types_by_name
    named = [
        (group.name, kinds["Kind"].values_by_number[group.kind].name, group.count)
        for group in proto.instance_group
    ]
    assert named == groups
