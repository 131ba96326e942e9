import pytest

from serving.config import ModelConfig, Reshape, Source, complete, parse, resolve, validate
from serving.dtypes import Datatype
from serving.errors import LoadFailed
from serving.types import Signature, TensorSpec

FP32 = Datatype.FP32
IMAGES = Signature(
    inputs=(TensorSpec("image", Datatype.UINT8, (-1, 28, 28)),),
    outputs=(TensorSpec("logits", FP32, (-1, 10)), TensorSpec("best", Datatype.INT64, (-1,))),
)
UNBATCHED = Signature((TensorSpec("x", FP32, (2, -1)),), (TensorSpec("y", FP32, ()),))
DEFAULTED = Signature(
    (TensorSpec("x", FP32, (2,)), TensorSpec("bias", FP32, (2,), optional=True)),
    (TensorSpec("y", FP32, (2,)),),
)


def completed(text: str, signature: Signature = IMAGES) -> ModelConfig:
    source = Source("m/config.pbtxt", text)
    proto = resolve(parse(text, source.name), "m", source, files=["model.onnx"])
    return complete(proto, signature, source)


def failure_of(text: str, signature: Signature = IMAGES) -> str:
    with pytest.raises(LoadFailed) as failure:
        completed(text, signature)
    return failure.value.message


def test_a_graph_whose_tensors_all_begin_with_a_variable_dimension_batches() -> None:
    config = completed("")

    assert config.max_batch_size == 4
    assert config.inputs == (TensorSpec("image", Datatype.UINT8, (28, 28)),)
    assert list(config.proto.dynamic_batching.preferred_batch_size) == [4]


def test_a_graph_with_one_fixed_leading_dimension_does_not_batch() -> None:
    config = completed("", UNBATCHED)

    assert config.max_batch_size == 0
    assert config.inputs == (TensorSpec("x", FP32, (2, -1)),)
    assert not config.proto.HasField("dynamic_batching")


@pytest.mark.parametrize(
    ("text", "size", "merges"),
    [
        ("max_batch_size: 32", 32, True),
        ("max_batch_size: 1", 1, False),
        ("dynamic_batching {}", 4, True),
        # With inputs and outputs stated there is nothing to fill in, batching included.
        (
            """
            max_batch_size: 8
            input { name: "image" data_type: TYPE_UINT8 dims: [ 28, 28 ] }
            output { name: "logits" data_type: TYPE_FP32 dims: [ 10 ] }
            """,
            8,
            False,
        ),
        (
            """
            input { name: "image" data_type: TYPE_UINT8 dims: [ -1, 28, 28 ] }
            output { name: "logits" data_type: TYPE_FP32 dims: [ -1, 10 ] }
            """,
            0,
            False,
        ),
    ],
)
def test_batching_is_added_where_triton_adds_it(text: str, size: int, merges: bool) -> None:
    config = completed(text)

    assert config.max_batch_size == size
    assert config.proto.HasField("dynamic_batching") is merges


def test_only_what_is_missing_is_read_from_the_graph() -> None:
    config = completed('output { name: "best" data_type: TYPE_INT64 dims: 1 reshape {} }')

    assert [spec.name for spec in config.inputs] == ["image"]
    assert [spec.name for spec in config.outputs] == ["best"]


def test_a_tensor_of_one_value_per_row_is_seen_as_one_element() -> None:
    config = completed("")

    assert config.outputs[1] == TensorSpec("best", Datatype.INT64, (1,))
    assert config.output_reshapes == {"best": Reshape(client=(1,), graph=())}


def test_a_scalar_is_seen_as_one_element() -> None:
    config = completed("", UNBATCHED)

    assert config.outputs == (TensorSpec("y", FP32, (1,)),)
    assert config.output_reshapes == {"y": Reshape(client=(1,), graph=())}


def test_an_input_with_a_default_is_offered_only_where_it_is_asked_for() -> None:
    asked = """
        input { name: "x" data_type: TYPE_FP32 dims: 2 }
        input { name: "bias" data_type: TYPE_FP32 dims: 2 optional: true }
    """

    assert [spec.name for spec in completed("", DEFAULTED).inputs] == ["x"]
    assert [spec.optional for spec in completed(asked, DEFAULTED).inputs] == [False, True]


def test_a_model_that_cannot_batch_is_not_given_a_batch_size() -> None:
    message = failure_of("\nmax_batch_size: 8", UNBATCHED)

    assert message.startswith("m/config.pbtxt:2: autofill failed for model 'm': ")
    assert "the graph gives 'x' the shape [2,-1]" in message
    assert "write max_batch_size: 0" in message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('input { name: "" data_type: TYPE_FP32 dims: 1 }', "model input must specify 'name'"),
        ('input { name: "image" dims: 1 }', "model input 'image' must specify 'data_type'"),
        ('input { name: "image" data_type: TYPE_FP32 }', "must specify 'dims'"),
        (
            '\n\noutput { name: "logits" data_type: TYPE_FP32\n dims: 0 }',
            "pbtxt:4: model output 'logits' dimension must be integer >= 1, or -1",
        ),
        (
            'input { name: "image" data_type: TYPE_FP32 dims: -2 }',
            "variable-size dimension, got -2",
        ),
        (
            'input { name: "image" data_type: TYPE_UINT8 dims: [28, 28] format: FORMAT_NCHW }',
            "model input NHWC/NCHW require 3 dims, 'image' has 2",
        ),
        (
            'input { name: "image" data_type: TYPE_UINT8 dims: [28, 28] }'
            '\ninput { name: "image" data_type: TYPE_UINT8 dims: [28, 28] }',
            "pbtxt:2: model input 'image' is given more than once",
        ),
        (
            'input { name: "image" data_type: TYPE_UINT8 dims: 784 reshape { shape: [28, 27] } }',
            "model input 'image' has different size for dims and reshape",
        ),
        (
            'input { name: "image" data_type: TYPE_UINT8 dims: 4 reshape { shape: [-2, -2] } }',
            "model input 'image' reshape dimensions must be integer >= 1, or -1",
        ),
        (
            'input { name: "image" data_type: TYPE_UINT8 dims: [2, -1] '
            "reshape { shape: [-1, 2] } }",
            "has different size for dims and reshape",
        ),
        (
            'input { name: "image" data_type: TYPE_UINT8 dims: [2, -1] reshape { shape: [2, 3] } }',
            "has different number of variable-size dimensions for dims and reshape",
        ),
    ],
)
def test_a_tensor_that_contradicts_itself_is_refused(text: str, message: str) -> None:
    assert message in failure_of(text)


def test_an_empty_reshape_needs_a_batch() -> None:
    text = """
        input { name: "x" data_type: TYPE_FP32 dims: [2, -1] }
        output { name: "y" data_type: TYPE_FP32 dims: 1 reshape {} }
    """

    assert "pbtxt:3: model output 'y' cannot have empty reshape" in failure_of(text, UNBATCHED)


@pytest.mark.parametrize(
    ("text", "signature", "message"),
    [
        (
            'input { name: "image" data_type: TYPE_FP32 dims: [28, 28] }',
            IMAGES,
            "pbtxt:1: configuration expects datatype TYPE_FP32 for input 'image', model provides "
            "TYPE_UINT8: write data_type: TYPE_UINT8",
        ),
        (
            'input { name: "img" data_type: TYPE_UINT8 dims: [28, 28] }',
            IMAGES,
            "unexpected inference input 'img', allowed inputs are: image; did you mean 'image'?",
        ),
        (
            'input { name: "img" data_type: TYPE_UINT8 dims: [28, 28] }',
            IMAGES,
            "configuration expects 1 inputs, model provides 1: add 'image' (TYPE_UINT8)",
        ),
        (
            '\noutput { name: "logit" data_type: TYPE_FP32 dims: 10 }',
            IMAGES,
            "pbtxt:2: unexpected inference output 'logit', allowed outputs are: logits, best",
        ),
        (
            'input { name: "image" data_type: TYPE_UINT8\n dims: [-1, 28, 28] }',
            IMAGES,
            "pbtxt:2: tensor 'image': the model expects 3 dimensions (shape [-1,28,28]) but the "
            "model configuration specifies 4 dimensions (an initial batch dimension because "
            "max_batch_size > 0 followed by the explicit tensor shape, making complete shape "
            "[-1,-1,28,28]): write dims: [ 28, 28 ], without the batch dimension",
        ),
        (
            'output { name: "best" data_type: TYPE_INT64 dims: 1 }',
            IMAGES,
            "write dims: [ 1 ] reshape: { shape: [ ] }, without the batch dimension",
        ),
        (
            'max_batch_size: 2 input { name: "x" data_type: TYPE_FP32 dims: 2 }'
            ' output { name: "y" data_type: TYPE_FP32 dims: 2 }',
            DEFAULTED,
            "first dimension must be -1; but shape expected by the model is [2]: write "
            "max_batch_size: 0 with the whole shape in dims",
        ),
        (
            'input { name: "x" data_type: TYPE_FP32 dims: [3, 7] }',
            UNBATCHED,
            "tensor 'x': the model expects 2 dimensions (shape [2,-1]) but the model configuration "
            "specifies 2 dimensions (shape [3,7]): write dims: [ 2, -1 ]",
        ),
        (
            'output { name: "y" data_type: TYPE_FP32 dims: 2 }',
            UNBATCHED,
            "scalar tensor 'y', should only provide 1 in the model configuration",
        ),
        (
            'input { name: "x" data_type: TYPE_FP32 dims: 2 optional: true }',
            DEFAULTED,
            "input 'x' has no default in the graph: write optional: false",
        ),
        (
            'input { name: "x" data_type: TYPE_FP32 dims: 2 }'
            ' input { name: "bias" data_type: TYPE_FP32 dims: 2 }',
            DEFAULTED,
            "input 'bias' has a default in the graph: write optional: true",
        ),
        (
            'input { name: "image" data_type: TYPE_UINT8 dims: [28, 28] optional: true }',
            IMAGES,
            "optional input 'image' is not supported for models that support batching",
        ),
    ],
)
def test_a_configuration_that_the_graph_contradicts_says_what_each_says(
    text: str, signature: Signature, message: str
) -> None:
    assert message in failure_of(text, signature)


def test_an_input_may_fix_what_the_graph_leaves_variable_but_an_output_may_not() -> None:
    graph = Signature((TensorSpec("x", FP32, (-1, -1)),), (TensorSpec("y", FP32, (-1, -1)),))

    assert completed('input { name: "x" data_type: TYPE_FP32 dims: 7 }', graph).inputs[0].dims == (
        7,
    )
    assert "making complete shape [-1,7]" in failure_of(
        'output { name: "y" data_type: TYPE_FP32 dims: 7 }', graph
    )


def test_a_reshape_is_held_against_the_graph_in_place_of_the_dims() -> None:
    config = completed(
        'input { name: "image" data_type: TYPE_UINT8 dims: 784 reshape { shape: [28, 28] } }'
    )

    assert config.inputs[0].dims == (784,)
    assert config.input_reshapes["image"].to_graph((784,)) == (28, 28)


def test_another_version_must_have_the_same_signature() -> None:
    other = Signature(IMAGES.inputs, (TensorSpec("logits", FP32, (-1, 12)), IMAGES.outputs[1]))

    with pytest.raises(LoadFailed, match=r"the model expects 2 dimensions \(shape \[-1,12\]\)"):
        validate(completed(""), other)


def test_without_a_file_the_model_itself_is_named() -> None:
    source = Source("repository/m")

    with pytest.raises(LoadFailed, match="repository/m: could not determine backend"):
        resolve(None, "m", source)


def test_pinned_memory_is_stated_as_triton_states_it() -> None:
    told = completed("optimization { input_pinned_memory { enable: false } }").proto.optimization
    untold = completed("").proto.optimization

    assert [told.input_pinned_memory.enable, told.output_pinned_memory.enable] == [False, True]
    assert [untold.input_pinned_memory.enable, untold.output_pinned_memory.enable] == [True, True]
