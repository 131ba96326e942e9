"""A checkpoint as one ONNX file that takes raw input: cast and normalisation are in the graph."""

from collections.abc import Iterable, Mapping
from typing import Any

import onnx
import torch

from export import exporter, language, translation
from export.errors import ConversionFailed
from export.served import TASKS, serve
from serving.dtypes import from_wire
from training.checkpoint import Checkpoint
from training.spec import Signature, TensorField, binary, classifier, text_classifier

DTYPES = {"UINT8": torch.uint8, "FP32": torch.float32, "INT64": torch.int64}
# What a dimension of variable size is called, and its size in the example; of texts there is one.
LENGTH, EXAMPLE_LENGTH = "length", 5
INPUTS = {"text": 2, "translation": 3}  # of models that have more than one


def to_onnx(checkpoint: Checkpoint, opset: int) -> bytes:
    """The bytes of `model.onnx`: the same ones for the same checkpoint, opset and versions.

    The batch dimension is dynamic, and the length of texts; everything else is as the checkpoint's
    signature says. Raises ConversionFailed.
    """
    main_input(checkpoint)
    if checkpoint.task == "translation":
        model, signature = translation.convert(checkpoint, opset), checkpoint.signature
    else:
        model, signature = _converted(checkpoint, opset)
    check(model, signature)
    return bytes(model.SerializeToString(deterministic=True))


def _converted(checkpoint: Checkpoint, opset: int) -> tuple[onnx.ModelProto, Signature]:
    served, signature = _served(checkpoint)
    fields = signature.inputs
    names = {"batch": torch.export.Dim("batch"), LENGTH: torch.export.Dim(LENGTH)}
    shapes = [_dynamic(field, names) for field in fields]
    model = exporter.convert(
        served,
        tuple(_example(field) for field in fields),
        [field.name for field in fields],
        [output.name for output in signature.outputs],
        _nested(shapes, checkpoint.task),
        opset,
        checkpoint.architecture,
    )
    return model, signature


def _served(checkpoint: Checkpoint) -> tuple[torch.nn.Module, Signature]:
    """What is converted, and what it takes and gives."""
    if checkpoint.task == "language":
        return language.step(checkpoint)
    return serve(checkpoint), checkpoint.signature


def _nested(shapes: list[dict[int, Any]], task: str) -> tuple[Any, ...]:
    """As the network's arguments have it: a step takes its caches as one, of any number."""
    return (*shapes[:2], tuple(shapes[2:])) if task == "language" else tuple(shapes)


def _example(field: TensorField) -> torch.Tensor:
    # Two rows: the exporter would take a batch of one for a constant.
    shape = [EXAMPLE_LENGTH if size == -1 else size for size in field.shape]
    return torch.zeros((2, *shape), dtype=DTYPES[field.datatype])


def _dynamic(field: TensorField, names: Mapping[str, Any]) -> dict[int, Any]:
    variable = [place for place, size in enumerate(field.shape, 1) if size == -1]
    return {0: names["batch"]} | dict.fromkeys(variable, names[LENGTH])


def main_input(checkpoint: Checkpoint) -> TensorField:
    """The input that holds the samples of the data set, of a model that this package can export;
    ConversionFailed for any other model."""
    signature, task = checkpoint.signature, checkpoint.task
    if task not in TASKS or len(signature.inputs) != INPUTS.get(task, 1):
        raise ConversionFailed(
            f"only a model with one input, or of texts, can be exported, for {', '.join(TASKS)}; "
            f"this checkpoint is for {task} and has {signature}"
        )
    field = signature.inputs[0]
    _check_classes(checkpoint, field)
    if task in ("text", "language", "translation"):
        fits = (field.datatype, field.shape) == ("INT64", (-1,))
    else:
        fits = field.datatype in {"UINT8", "FP32"} and min(field.shape, default=0) >= 1
    if not fits:
        raise ConversionFailed(
            f"the input {field.name} is {field.datatype} {list(field.shape)}, but only UINT8 and "
            "FP32 of fixed dimensions can be exported, and INT64 [-1] for texts"
        )
    return field


def _check_classes(checkpoint: Checkpoint, field: TensorField) -> None:
    wanted = {
        "classification": classifier(field, len(checkpoint.labels)),
        "text": text_classifier(field, len(checkpoint.labels)),
        "binary": binary(field) if len(checkpoint.labels) == 2 else None,
    }
    if wanted.get(checkpoint.task, checkpoint.signature) != checkpoint.signature:
        raise ConversionFailed(
            "a classifier has logits and probabilities for each of its labels, which are "
            f"{len(checkpoint.labels)} labels here; this checkpoint has {checkpoint.signature}"
        )


def check(model: onnx.ModelProto, signature: Signature) -> None:
    """Raises ConversionFailed unless the graph is valid, with every shape inferred, and has the
    signature's inputs and outputs behind one dynamic batch dimension."""
    try:
        onnx.checker.check_model(model, full_check=True)
    except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
        raise ConversionFailed(f"the exported graph is not valid ONNX: {error}") from error
    wanted = [_expected(field) for field in (*signature.inputs, *signature.outputs)]
    found = [_found(info) for info in (*model.graph.input, *model.graph.output)]
    if found != wanted:
        raise ConversionFailed(
            f"the exported graph has {'; '.join(found)}, the checkpoint {'; '.join(wanted)}"
        )


def _expected(field: TensorField) -> str:
    element = onnx.helper.np_dtype_to_tensor_dtype(from_wire(field.datatype).numpy)
    sizes = (LENGTH if size == -1 else size for size in field.shape)
    return _describe(field.name, element, ("batch", *sizes))


def _found(info: onnx.ValueInfoProto) -> str:
    tensor = info.type.tensor_type
    dims = [dim.dim_param or dim.dim_value for dim in tensor.shape.dim]
    return _describe(info.name, tensor.elem_type, dims)


def _describe(name: str, element: int, dims: Iterable[int | str]) -> str:
    return f"{name} {onnx.TensorProto.DataType.Name(element)}[{', '.join(map(str, dims))}]"
