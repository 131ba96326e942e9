import pytest

from serving.config import (
    ModelConfig,
    Reshape,
    RuntimeOptions,
    Source,
    choose,
    instance_sessions,
    parse,
    runtime_options,
)
from serving.types import BatchPolicy, QueuePolicy, TimeoutAction


def config_of(text: str) -> ModelConfig:
    return ModelConfig(parse(text, "c"), Source("c", text), (), ())


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        ("", BatchPolicy(1, QueuePolicy(50), merge=False)),
        ("dynamic_batching {}", BatchPolicy(1, QueuePolicy(50), merge=False)),
        ("max_batch_size: 8", BatchPolicy(8, QueuePolicy(50), merge=False)),
        ("max_batch_size: 8 dynamic_batching {}", BatchPolicy(8, QueuePolicy(50))),
        (
            """
            max_batch_size: 8
            dynamic_batching {
              preferred_batch_size: [ 8, 4, 4 ]
              max_queue_delay_microseconds: 100
              default_queue_policy {
                timeout_action: DELAY
                default_timeout_microseconds: 2000
                allow_timeout_override: true
                max_queue_size: 16
              }
            }
            """,
            BatchPolicy(
                8,
                QueuePolicy(16, 2_000_000, TimeoutAction.DELAY, allow_timeout_override=True),
                preferred=(4, 8),
                max_delay=100_000,
            ),
        ),
        (
            """
            max_batch_size: 8
            dynamic_batching {
              priority_levels: 3
              default_priority_level: 2
              priority_queue_policy { key: 1 value { max_queue_size: 4 } }
              priority_queue_policy { key: 3 value { default_timeout_microseconds: 9 } }
            }
            """,
            BatchPolicy(
                8,
                QueuePolicy(50),
                priority_levels=3,
                default_level=2,
                level_queues={1: QueuePolicy(4), 3: QueuePolicy(50, 9000)},
            ),
        ),
        (
            "max_batch_size: 8 dynamic_batching { preserve_ordering: true }",
            BatchPolicy(8, QueuePolicy(50), preserve_ordering=True),
        ),
        # Without merging, the queue's own rules still hold.
        (
            "dynamic_batching { default_queue_policy { max_queue_size: 3 } }",
            BatchPolicy(1, QueuePolicy(3), merge=False),
        ),
    ],
)
def test_the_batch_policy_is_the_configurations(text: str, policy: BatchPolicy) -> None:
    assert config_of(text).batch_policy(default_max_queue=50) == policy


@pytest.mark.parametrize(
    ("text", "chosen"),
    [
        (None, [10]),
        ("", [10]),
        ("version_policy { latest { num_versions: 2 } }", [2, 10]),
        ("version_policy { latest { num_versions: 9 } }", [1, 2, 10]),
        ("version_policy { all {} }", [1, 2, 10]),
        ("version_policy {}", [1, 2, 10]),
        ("version_policy { specific { versions: [ 10, 1, 7 ] } }", [1, 10]),
    ],
)
def test_the_version_policy_chooses_among_the_versions_that_exist(
    text: str | None, chosen: list[int]
) -> None:
    proto = None if text is None else parse(text, "c")

    assert choose(proto, [10, 1, 2]) == chosen
    assert choose(proto, []) == []


def test_the_session_options_are_read_by_tritons_names() -> None:
    values = {
        "intra_op_thread_count": "4",
        "inter_op_thread_count": "0",
        "execution_mode": "1",
        "enable_mem_arena": "False",
        "enable_mem_pattern": "on",
        "session.use_device_allocator_for_initializers": "1",
        "share_session_between_instances": "true",
    }
    text = "optimization { graph { level: -1 } }" + "".join(
        f'parameters {{ key: "{key}" value {{ string_value: "{value}" }} }}'
        for key, value in values.items()
    )

    assert runtime_options(parse(text, "c")) == RuntimeOptions(
        intra_op_threads=4,
        inter_op_threads=None,
        parallel=True,
        mem_arena=False,
        mem_pattern=True,
        graph_level=-1,
        device_allocator=True,
        share_session=True,
    )


def test_without_parameters_every_choice_is_left_open() -> None:
    assert runtime_options(parse("", "c")) == RuntimeOptions(None, None, False, None, None, 0)
    assert config_of("").reject_non_finite_inputs is False


def test_what_the_metadata_needs_is_at_hand() -> None:
    config = config_of(
        """
        name: "m" backend: "identity"
        instance_group [ { count: 2 }, { count: 3 } ]
        input [ { name: "image" format: FORMAT_NCHW }, { name: "other" } ]
        output [ { name: "y" label_filename: "labels.txt" }, { name: "z" } ]
        """
    )

    assert config.platform == "identity"
    assert config.formats == {"image": "FORMAT_NCHW"}
    assert config.label_filenames == {"y": "labels.txt"}


SHARED = 'parameters { key: "share_session_between_instances" value { string_value: "1" } }'


@pytest.mark.parametrize(
    ("text", "sessions"),
    [
        ("instance_group { count: 2 } instance_group { count: 3 }", [0, 1, 2, 3, 4]),
        ("instance_group { count: 2 } instance_group { count: 3 }" + SHARED, [0, 0, 1, 1, 1]),
        ("instance_group { count: 2 passive: true } instance_group { count: 1 }", [0]),
    ],
)
def test_every_instance_that_answers_has_a_session(text: str, sessions: list[int]) -> None:
    assert instance_sessions(config_of(text).proto) == sessions


@pytest.mark.parametrize(
    ("reshape", "client", "graph"),
    [
        (Reshape((1,), ()), (1,), ()),
        (Reshape((784,), (28, 28)), (784,), (28, 28)),
        (Reshape((-1, 4, -1), (-1, 2, 2, -1)), (5, 4, 0), (5, 2, 2, 0)),
    ],
)
def test_a_reshape_translates_shapes_both_ways(
    reshape: Reshape, client: tuple[int, ...], graph: tuple[int, ...]
) -> None:
    assert reshape.to_graph(client) == graph
    assert reshape.to_client(graph) == client
