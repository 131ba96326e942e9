"""Which device each session executes on, and with which options of ONNX Runtime."""

import pytest

from serving.config import (
    CPU,
    Placement,
    Proto,
    Source,
    instance_sessions,
    parse,
    placements,
    within,
)
from serving.config import resolve as resolve_
from serving.config.accelerators import cuda_options, tensorrt_options, tolerance
from serving.devices import NONE, Gpus
from serving.errors import LoadFailed

TWO = Gpus((0, 1))
SHARED = 'parameters { key: "share_session_between_instances" value { string_value: "on" } }'


def resolve(text: str, gpus: Gpus = TWO) -> Proto:
    source = Source("m/config.pbtxt", text)
    return resolve_(parse(text, source.name), "m", source, files=["model.onnx"], gpus=gpus)


def accelerated(name: str, **parameters: str) -> str:
    given = " ".join(
        f'parameters {{ key: "{key}" value: "{value}" }}' for key, value in parameters.items()
    )
    return (
        "optimization { execution_accelerators { gpu_execution_accelerator {\n"
        f'name: "{name}"\n{given} }} }} }}'
    )


@pytest.mark.parametrize(
    ("text", "gpus", "where"),
    [
        ("", NONE, [None]),
        ("", TWO, [0, 1]),
        ("instance_group { count: 2 }", TWO, [0, 0, 1, 1]),
        ("instance_group { gpus: 1 }", TWO, [1]),
        ("instance_group { kind: KIND_CPU }", TWO, [None]),
        ("instance_group { kind: KIND_MODEL }", TWO, [None]),
        ("instance_group { kind: KIND_GPU }", TWO, [0, 1]),
        ("instance_group { kind: KIND_GPU gpus: [ 1 ] count: 3 }", TWO, [1, 1, 1]),
        (
            "instance_group { kind: KIND_GPU gpus: 0 } instance_group { kind: KIND_CPU count: 2 }",
            TWO,
            [0, None, None],
        ),
        ("instance_group { passive: true } instance_group { kind: KIND_CPU }", TWO, [None]),
        ("instance_group { }", Gpus((3,)), [3]),
    ],
)
def test_each_instance_is_placed_as_triton_places_it(
    text: str, gpus: Gpus, where: list[int | None]
) -> None:
    proto = resolve(text, gpus)
    assert [placement.gpu for placement in placements(proto)] == where
    assert instance_sessions(proto) == list(range(len(where)))


@pytest.mark.parametrize(
    ("text", "own", "where"),
    [
        ("", (0,), [0]),
        ("", None, [0, 1]),
        ("instance_group { count: 2 }", (1,), [1, 1]),
        ("instance_group { gpus: 1 }", (0,), []),
        ("instance_group { gpus: 1 }", (), []),
        ("instance_group { kind: KIND_CPU }", (1,), [None]),
        ("instance_group { gpus: 1 } instance_group { kind: KIND_CPU }", (0,), [None]),
        ("instance_group { gpus: 0 } instance_group { gpus: [ 1, 0 ] }", (0,), [0, 0]),
    ],
)
def test_a_process_has_the_instances_on_its_own_gpus_and_on_the_cpu(
    text: str, own: tuple[int, ...] | None, where: list[int | None]
) -> None:
    gpus = Gpus((0, 1), own=own)
    proto = resolve(text, gpus)
    whole = proto.SerializeToString()
    here = within(proto, gpus)
    assert [placement.gpu for placement in placements(here)] == where
    assert proto.SerializeToString() == whole


def test_a_session_is_shared_on_its_device_and_not_between_devices() -> None:
    proto = resolve(f"instance_group {{ count: 2 }} {SHARED}")
    assert instance_sessions(proto) == [0, 0, 1, 1]
    assert [placement.gpu for placement in placements(proto)] == [0, 1]


def test_the_configuration_in_force_names_the_gpus() -> None:
    [group] = resolve("").instance_group
    assert list(group.gpus) == [0, 1]


def test_what_computes_in_python_is_on_the_cpu_and_refuses_gpus() -> None:
    assert placements(resolve('backend: "identity"')) == [CPU]
    with pytest.raises(LoadFailed, match="the backend 'identity' computes on the CPU"):
        resolve('backend: "identity" instance_group { kind: KIND_GPU }')


@pytest.mark.parametrize(
    ("text", "gpus", "message"),
    [
        (
            "instance_group {\nkind: KIND_GPU }",
            Gpus(missing="no driver"),
            ":2: instance group m_0 of model m has kind KIND_GPU but no GPUs are available (no dri",
        ),
        (
            "instance_group {\ngpus: [ 0, 7 ]\nkind: KIND_GPU }",
            TWO,
            ":2: instance group m_0 of model m specifies invalid or unsupported gpu id 7. GPUs tha",
        ),
        (
            "instance_group {\ngpus: 0 kind: KIND_CPU }",
            TWO,
            ":2: instance group m_0 of model m has kind KIND_CPU but specifies one or more GPUs",
        ),
        (
            "instance_group {\ngpus: 7 }",
            TWO,
            ":2: instance group m_0 of model m has kind KIND_CPU but specifies one or more GPUs",
        ),
        (
            "instance_group {\ngpus: 0 kind: KIND_MODEL }",
            TWO,
            ":2: instance group m_0 of model m has kind KIND_MODEL but specifies one or more GPUs",
        ),
    ],
)
def test_gpus_that_cannot_be_had_are_refused_in_tritons_words(
    text: str, gpus: Gpus, message: str
) -> None:
    with pytest.raises(LoadFailed) as failure:
        resolve(text, gpus)
    assert message in failure.value.message


def test_tensorrt_comes_first_where_the_server_asks_for_it() -> None:
    asked = Gpus((0,), tensorrt=True)
    assert placements(resolve("", asked)) == [Placement(0, {}, {})]
    # What a model says of accelerators itself holds, and on the CPU there is none.
    assert placements(resolve(accelerated("cuda"), asked)) == [Placement(0)]
    assert placements(resolve("instance_group { kind: KIND_CPU }", asked)) == [CPU]


def test_a_placement_tells_where_it_is() -> None:
    assert [str(each) for each in (CPU, Placement(1), Placement(0, {}, {}))] == [
        "the CPU",
        "GPU 1",
        "GPU 0 by TensorRT",
    ]


@pytest.mark.parametrize(
    ("parameters", "options"),
    [
        ({}, {}),
        ({"precision_mode": "FP32"}, {}),
        ({"precision_mode": "FP16"}, {"trt_fp16_enable": "True"}),
        ({"precision_mode": "BF16"}, {"trt_bf16_enable": "True"}),
        ({"precision_mode": "INT8"}, {"trt_int8_enable": "True"}),
        ({"max_workspace_size_bytes": "1073741824"}, {"trt_max_workspace_size": "1073741824"}),
        (
            {"int8_calibration_table_name": "t", "int8_use_native_calibration_table": "off"},
            {
                "trt_int8_calibration_table_name": "t",
                "trt_int8_use_native_calibration_table": "False",
            },
        ),
        (
            {"trt_engine_cache_enable": "True", "trt_engine_cache_path": "/cache"},
            {"trt_engine_cache_enable": "True", "trt_engine_cache_path": "/cache"},
        ),
        # The provider refuses 1 and 0, which Triton's documentation has.
        ({"trt_cuda_graph_enable": "1"}, {"trt_cuda_graph_enable": "True"}),
        ({"trt_timing_cache_enable": "0"}, {"trt_timing_cache_enable": "False"}),
        ({"trt_auxiliary_streams": "-1"}, {"trt_auxiliary_streams": "-1"}),
    ],
)
def test_tensorrts_parameters_become_the_providers_options(
    parameters: dict[str, str], options: dict[str, str]
) -> None:
    proto = resolve(accelerated("tensorrt", **parameters))
    assert tensorrt_options(proto) == options
    assert {placement.gpu for placement in placements(proto)} == {0, 1}


@pytest.mark.parametrize(
    ("parameters", "options"),
    [
        ({"gpu_mem_limit": "4294967296"}, {"gpu_mem_limit": "4294967296"}),
        (
            {"arena_extend_strategy": "kSameAsRequested"},
            {"arena_extend_strategy": "kSameAsRequested"},
        ),
        ({"cudnn_conv_algo_search": "1"}, {"cudnn_conv_algo_search": "HEURISTIC"}),
        ({"cudnn_conv_use_max_workspace": "0"}, {"cudnn_conv_use_max_workspace": "False"}),
        ({"enable_cuda_graph": "on"}, {"enable_cuda_graph": "True"}),
    ],
)
def test_cudas_parameters_become_the_providers_options(
    parameters: dict[str, str], options: dict[str, str]
) -> None:
    assert cuda_options(resolve(accelerated("cuda", **parameters))) == options


def test_tritons_older_parameters_go_before_those_of_the_accelerator() -> None:
    older = "".join(
        f'parameters {{ key: "{name}" value {{ string_value: "{value}" }} }}\n'
        for name, value in {
            "cudnn_conv_algo_search": "2",
            "gpu_mem_limit": "1000",
            "arena_extend_strategy": "0",
            "do_copy_in_default_stream": "1",
        }.items()
    )
    both = older + accelerated("cuda", gpu_mem_limit="5", use_tf32="0")
    assert cuda_options(resolve(both)) == {
        "cudnn_conv_algo_search": "DEFAULT",
        "gpu_mem_limit": "1000",
        "arena_extend_strategy": "kNextPowerOfTwo",
        "do_copy_in_default_stream": "True",
        "use_tf32": "False",
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            accelerated("tensorrt", precision_mode="FP8"),
            "pbtxt:3: unsupported precision mode 'FP8' is requested: write one of FP32, FP16",
        ),
        (
            accelerated("tensorrt", trt_engine_cache="1"),
            "unknown parameter 'trt_engine_cache' is provided for TensorRT Execution Accelerator; "
            "did you mean 'trt_engine_cache_path'?",
        ),
        (
            accelerated("tensorrt", trt_engine_cache_enable="ja"),
            "parameter 'trt_engine_cache_enable' is 'ja', expected true or false",
        ),
        (
            accelerated("tensorrt", max_workspace_size_bytes="1 GB"),
            "'max_workspace_size_bytes' is '1 GB', expected a number of bytes above 0",
        ),
        (accelerated("tensorrt", trt_min_subgraph_size="-"), "expected a whole number"),
        (accelerated("tensorrt", trt_min_subgraph_size="2147483648"), "number of 32 bits"),
        (accelerated("tensorrt", trt_engine_cache_path=""), "expected a text"),
        (
            accelerated("cuda", device_id="1"),
            "unknown parameter 'device_id' is provided for CUDA Execution Accelerator",
        ),
        (
            accelerated("cuda", arena_extend_strategy="2"),
            "'2', expected 0 (kNextPowerOfTwo) or 1 (kSameAsRequested)",
        ),
        (
            '\nparameters { key: "cudnn_conv_algo_search" value { string_value: "5" } }',
            "pbtxt:2: unsupported cudnn_conv_algo_search value '5' is requested: expected 0 (EXHA",
        ),
    ],
)
def test_parameters_that_mean_nothing_are_refused_with_the_cure(text: str, message: str) -> None:
    with pytest.raises(LoadFailed) as failure:
        resolve(text)
    assert message in failure.value.message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (SHARED, "CUDA graphs need a session for each instance"),
        (
            'parameters { key: "memory.enable_memory_arena_shrinkage"\n'
            'value { string_value: "cpu:0;gpu:1" } }',
            "CUDA graphs keep their memory where it is",
        ),
    ],
)
def test_what_cuda_graphs_do_not_go_together_with_is_refused(text: str, message: str) -> None:
    recorded = accelerated("cuda", enable_cuda_graph="1")
    with pytest.raises(LoadFailed, match=message):
        resolve(f"{text}\n{recorded}")
    # On the CPU there are none.
    resolve(f"{text}\n{recorded}\ninstance_group {{ kind: KIND_CPU }}")


@pytest.mark.parametrize(
    ("text", "records"),
    [
        ("", False),
        (accelerated("cuda", enable_cuda_graph="0"), False),
        (accelerated("cuda", enable_cuda_graph="1"), True),
        (accelerated("tensorrt", trt_cuda_graph_enable="true"), True),
    ],
)
def test_graphs_are_recorded_where_a_provider_is_told_to(text: str, records: bool) -> None:
    assert {each.records_graphs for each in placements(resolve(text))} == {records}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (accelerated("tensorrt"), 0.01),
        (accelerated("tensorrt", precision_mode="FP16"), 0.02),
        (accelerated("tensorrt", precision_mode="BF16"), 0.05),
        (accelerated("tensorrt", precision_mode="INT8"), 0.1),
        (
            accelerated("tensorrt", precision_mode="INT8")
            + 'parameters { key: "accelerator_tolerance" value { string_value: "0.5" } }',
            0.5,
        ),
    ],
)
def test_how_far_an_accelerators_answers_may_differ_its_precision_says(
    text: str, expected: float
) -> None:
    assert tolerance(parse(text, "c")) == expected


def test_a_place_is_the_same_without_its_accelerator() -> None:
    [fast] = placements(resolve(accelerated("tensorrt") + "instance_group { gpus: 1 }"))
    assert (fast.accelerator, str(fast)) == ("TensorRT", "GPU 1 by TensorRT")
    assert (fast.plain.accelerator, str(fast.plain)) == ("", "GPU 1")
    assert CPU.plain == CPU
