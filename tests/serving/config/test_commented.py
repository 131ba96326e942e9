"""The commented text says what the graph says, and every option in it is one."""

import re
from collections.abc import Mapping, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tritonclient.grpc import model_config_pb2

from serving.config import ModelConfig, Source, complete, fill_tensors, parse, resolve
from serving.config.commented import commented
from serving.dtypes import Datatype
from serving.types import Signature, TensorSpec
from tests.serving.config.test_config_properties import signatures

FP32 = Datatype.FP32
IMAGES = Signature(
    (TensorSpec("image", Datatype.UINT8, (-1, 3, -1, -1)), TensorSpec("scale", FP32, (-1,))),
    (TensorSpec("logits", FP32, (-1, 10)), TensorSpec("best", Datatype.INT64, (-1,))),
)
FIXED = Signature(
    (TensorSpec("x", FP32, (2, -1)), TensorSpec("bias", FP32, (2,), optional=True)),
    (TensorSpec("y", FP32, ()), TensorSpec("text", Datatype.BYTES, (-1, 2))),
)
OPTION = re.compile(r"^ *#(?! )", re.MULTILINE)


def nameless(signature: Signature) -> dict[str, tuple[str, ...]]:
    return {spec.name: ("",) * len(spec.dims) for spec in (*signature.inputs, *signature.outputs)}


def read(text: str, signature: Signature) -> ModelConfig:
    source = Source("c", text)
    return complete(resolve(parse(text, "c"), "m", source), signature, source)


def written(
    signature: Signature,
    symbols: Mapping[str, Sequence[str]] | None = None,
    max_batch_size: int | None = None,
) -> str:
    proto = model_config_pb2.ModelConfig(
        name="m", backend="onnxruntime", max_batch_size=max_batch_size or 0
    )
    resolved = resolve(proto, "m", Source("m"))
    if max_batch_size == 0:
        fill_tensors(resolved, signature)
    config = complete(resolved, signature, Source("m"))
    return commented(config, signature, symbols or nameless(signature))


def prose(text: str) -> str:
    """The comments, in one line."""
    lines = text.splitlines()
    return " ".join(line.removeprefix("# ") for line in lines if line.startswith("# "))


@pytest.mark.parametrize("signature", [IMAGES, FIXED])
def test_the_text_means_what_no_text_would_mean(signature: Signature) -> None:
    source = Source("m")
    inferred = complete(resolve(None, "m", source, files=["model.onnx"]), signature, source)

    proto = read(written(signature), signature).proto

    for group in (*proto.instance_group, *inferred.proto.instance_group):
        group.ClearField("name")  # Triton numbers the groups that are stated
    assert proto == inferred.proto


@pytest.mark.parametrize("signature", [IMAGES, FIXED])
def test_every_option_can_be_set_by_taking_its_sign_away(signature: Signature) -> None:
    text = written(signature)
    plain = read(text, signature)
    options = list(OPTION.finditer(text))

    assert len(options) >= 8
    for option in options:
        uncommented = text[: option.end() - 1] + text[option.end() :]
        assert read(uncommented, signature).proto != plain.proto


def test_every_line_that_is_no_option_is_narrow() -> None:
    for line in written(IMAGES).splitlines():
        assert len(line) <= 100 or OPTION.match(line)


def test_each_dimension_of_any_size_is_explained_by_its_name() -> None:
    symbols = {
        "image": ("batch", "", "height", ""),
        "scale": ("batch",),
        "logits": ("batch", ""),
        "best": ("batch",),
    }
    text = written(IMAGES, symbols)

    assert ('dims: [ 3, -1, -1 ]  # -1 is any size: "height", unnamed\n') in text
    assert 'begins with a dimension of any size ("batch"), which is taken for the batch' in prose(
        text
    )
    assert "more than one name" not in text


def test_a_leading_dimension_of_several_names_is_doubted() -> None:
    symbols = {**nameless(IMAGES), "scale": ("sequence",), "logits": ("batch", "")}

    said = prose(written(IMAGES, symbols))

    assert 'of any size ("sequence", "batch")' in said
    assert "it has more than one name, so see that it is the batch" in said


def test_a_model_that_cannot_batch_is_told_why() -> None:
    text = written(FIXED)

    assert "max_batch_size: 0\n" in text
    assert "dynamic_batching" not in text
    assert "0: the model does not batch, as not every input and output begins" in prose(text)
    assert '"x" is [2, -1], "y" is []. Export it with a dynamic batch dimension' in prose(text)


def test_a_model_that_should_not_batch_keeps_whole_shapes() -> None:
    signature = Signature(IMAGES.inputs[:1], IMAGES.outputs[:1])
    text = written(signature, max_batch_size=0)

    assert read(text, signature).max_batch_size == 0
    assert "dims: [ -1, 3, -1, -1 ]" in text
    assert "a size above 0 merges requests along it" in prose(text)


def test_one_value_a_row_is_reshaped() -> None:
    text = written(IMAGES)

    assert text.count("dims: [ 1 ]\n  reshape { shape: [ ] }  # one value a row") == 2


def test_an_input_with_a_default_is_offered_as_an_option() -> None:
    option = '#input { name: "bias" data_type: TYPE_FP32 dims: [ 2 ] optional: true }\n'

    text = written(FIXED)

    assert option in text
    chosen = read(text.replace(option, option[1:]), FIXED)
    assert [(spec.name, spec.optional) for spec in chosen.inputs] == [("x", False), ("bias", True)]


@pytest.mark.parametrize(
    ("batches", "count", "said"),
    [
        (True, 1, 'values: "w0"; a model that batches cannot offer them.'),
        (False, 9, '"w7" and 1 more.'),
    ],
)
def test_defaults_that_cannot_or_should_not_be_offered_are_told_of(
    batches: bool, count: int, said: str
) -> None:
    dims = (-1, 2) if batches else (2,)
    weights = tuple(TensorSpec(f"w{i}", FP32, (3,), optional=True) for i in range(count))
    signature = Signature((TensorSpec("x", FP32, dims), *weights), (TensorSpec("y", FP32, dims),))

    text = written(signature)

    assert said in prose(text)
    assert "#input" not in text


@pytest.mark.parametrize(
    ("dims", "layout"),
    [((3, 8, 8), "FORMAT_NCHW"), ((8, 8, 3), "FORMAT_NHWC"), ((7, 8, 9), ""), ((3, 8), "")],
)
def test_the_layout_of_what_looks_like_an_image_is_suggested(
    dims: tuple[int, ...], layout: str
) -> None:
    signature = Signature((TensorSpec("x", FP32, (-1, *dims)),), (TensorSpec("y", FP32, (-1, 1)),))

    assert re.findall(r"#format: (\w+)", written(signature)) == ([layout] if layout else [])


def test_the_refusal_of_nan_is_offered_where_there_can_be_one() -> None:
    whole = Signature((TensorSpec("x", Datatype.INT8, (-1, 2)),), (TensorSpec("y", FP32, (-1, 2)),))

    assert "reject_non_finite_inputs" in written(IMAGES)
    assert "reject_non_finite_inputs" not in written(whole)


@given(signatures(), st.text(st.characters(codec="utf-8"), max_size=6), st.booleans())
def test_whatever_the_graph_the_text_fits_it(
    signature: Signature, symbol: str, batches: bool
) -> None:
    symbols = {
        spec.name: tuple(symbol if dim == -1 else "" for dim in spec.dims)
        for spec in (*signature.inputs, *signature.outputs)
    }

    config = read(written(signature, symbols, None if batches else 0), signature)

    assert [spec.name for spec in config.inputs] == [
        spec.name for spec in signature.inputs if not spec.optional
    ]
    assert [spec.name for spec in config.outputs] == [spec.name for spec in signature.outputs]
