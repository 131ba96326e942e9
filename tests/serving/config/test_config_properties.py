"""What holds for every configuration, whatever hypothesis thinks of."""

import contextlib

from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import model_config_pb2

from serving.config import Source, choose, complete, parse, resolve, to_text, validate
from serving.config.source import locate
from serving.dtypes import Datatype
from serving.errors import LoadFailed
from serving.types import Signature, TensorSpec

names = st.text(st.characters(codec="utf-8"), max_size=8)
dims = st.lists(st.integers(-3, 300), max_size=4)
kinds = model_config_pb2.ModelInstanceGroup
formats = model_config_pb2.ModelInput

tensors = st.fixed_dictionaries(
    {},
    optional={
        "name": names,
        "data_type": st.sampled_from(range(1, 15)),
        "dims": dims,
        "reshape": st.builds(model_config_pb2.ModelTensorReshape, shape=dims),
    },
)
policies = st.one_of(
    st.builds(lambda n: {"latest": {"num_versions": n}}, st.integers(0, 5)),
    st.builds(lambda v: {"specific": {"versions": v}}, st.lists(st.integers(0, 20), max_size=5)),
    st.just({"all": {}}),
)
configs = st.builds(
    model_config_pb2.ModelConfig,
    name=names,
    backend=st.sampled_from(["", "onnxruntime", "identity", "onnx"]),
    platform=st.sampled_from(["", "onnxruntime_onnx", "tensorrt_plan"]),
    max_batch_size=st.integers(-2, 9),
    input=st.lists(tensors.map(lambda fields: model_config_pb2.ModelInput(**fields)), max_size=3),
    output=st.lists(tensors.map(lambda fields: model_config_pb2.ModelOutput(**fields)), max_size=3),
    instance_group=st.lists(
        st.builds(kinds, name=names, kind=st.integers(0, 3), count=st.integers(-1, 4)), max_size=2
    ),
    version_policy=policies.map(lambda fields: model_config_pb2.ModelVersionPolicy(**fields)),
    parameters=st.dictionaries(
        names | st.sampled_from(["execution_mode", "enable_mem_arena", "intra_op_thread_count"]),
        names.map(lambda text: model_config_pb2.ModelParameter(string_value=text)),
        max_size=3,
    ),
    dynamic_batching=st.none()
    | st.builds(
        model_config_pb2.ModelDynamicBatching,
        preferred_batch_size=st.lists(st.integers(-1, 9), max_size=3),
        preserve_ordering=st.booleans(),
    ),
)

sizes = st.integers(1, 64) | st.just(-1)


@st.composite
def signatures(draw: st.DrawFn) -> Signature:
    """Graphs as they come: batched or not, scalars, inputs with defaults."""
    unique = draw(st.lists(names.filter(bool), min_size=2, max_size=6, unique=True))
    batch = (-1,) if draw(st.booleans()) else ()
    specs = [
        TensorSpec(
            name, draw(st.sampled_from(Datatype)), (*batch, *draw(st.lists(sizes, max_size=3)))
        )
        for name in unique
    ]
    cut = draw(st.integers(1, len(specs) - 1))
    default = TensorSpec("a default", Datatype.FP32, (1,), optional=True)
    extra = (default,) if draw(st.booleans()) else ()
    return Signature((*specs[:cut], *extra), tuple(specs[cut:]))


@st.composite
def mutated_texts(draw: st.DrawFn) -> str:
    """A valid text with a piece cut out, or another piece put in."""
    text = to_text(draw(configs))
    start = draw(st.integers(0, len(text)))
    end = draw(st.integers(start, min(start + 20, len(text))))
    piece = draw(st.text(max_size=5) | st.sampled_from(["{", "}", "[", "]", '"', "dims: ", "#"]))
    return text[:start] + piece + text[end:]


@given(st.text() | st.text("{}[]<>:;,\"'#\\\n -19.aein_") | mutated_texts())
def test_a_text_parses_or_the_load_fails(text: str) -> None:
    source = Source("c", text)

    with contextlib.suppress(LoadFailed):
        resolve(parse(text, "c"), "m", source)


@given(mutated_texts())
def test_a_text_that_parses_can_be_located(text: str) -> None:
    with contextlib.suppress(LoadFailed):
        parse(text, "c")
        lines = text.split("\n")
        for line, column in locate(text).values():
            assert 1 <= column <= len(lines[line - 1])


@given(configs)
def test_what_is_printed_parses_to_the_same_message(proto: model_config_pb2.ModelConfig) -> None:
    assert parse(to_text(proto), "c") == proto


@given(configs)
def test_every_tensor_of_a_printed_message_has_a_line(proto: model_config_pb2.ModelConfig) -> None:
    lines = to_text(proto).split("\n")
    source = Source("c", to_text(proto))

    for index, tensor in enumerate(proto.input):
        assert lines[source.line(f"input[{index}]") - 1] == "input {"
        if tensor.name:
            assert lines[source.line(f"input[{index}].name") - 1].startswith("  name: ")
        if tensor.dims:
            assert lines[source.line(f"input[{index}].dims") - 1].startswith("  dims: ")


@given(configs, signatures())
def test_any_message_resolves_and_completes_or_the_load_fails(
    proto: model_config_pb2.ModelConfig, signature: Signature
) -> None:
    source = Source("c", to_text(proto))

    with contextlib.suppress(LoadFailed):
        complete(resolve(proto, "m", source, files=["model.onnx"]), signature, source)


@given(signatures(), st.sampled_from([0, 1, 2, 8]))
def test_what_is_completed_from_a_graph_fits_that_graph(
    signature: Signature, max_batch_size: int
) -> None:
    required = [spec for spec in signature.inputs if not spec.optional]
    batches = all(spec.dims[:1] == (-1,) for spec in (*required, *signature.outputs))
    given_size = max_batch_size if batches else 0
    proto = model_config_pb2.ModelConfig(max_batch_size=given_size)
    source = Source("m")

    config = complete(resolve(proto, "m", source, files=["model.onnx"]), signature, source)

    validate(config, signature)
    assert config.max_batch_size == (given_size or (4 if batches else 0))
    assert [spec.name for spec in config.inputs] == [spec.name for spec in required]
    # What is complete stays as it is.
    assert complete(config.proto, signature, source).proto == config.proto


@given(policies, st.lists(st.integers(1, 30)))
def test_a_version_policy_chooses_existing_versions_in_order(
    policy: dict[str, dict[str, object]], versions: list[int]
) -> None:
    proto = model_config_pb2.ModelConfig(
        version_policy=model_config_pb2.ModelVersionPolicy(**policy)
    )

    chosen = choose(proto, versions)

    assert chosen == sorted(set(chosen))
    assert set(chosen) <= set(versions)
    if "latest" in policy:
        assert chosen == sorted(set(versions))[len(set(versions)) - len(chosen) :]
    if "all" in policy:
        assert set(chosen) == set(versions)
