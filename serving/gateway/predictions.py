"""What `/predict` makes of a model's outputs: classes, a picture, a translation, or series with
names.

The configuration's parameter `prediction` says which (`image`, `translation`, `forecast`); without
it, class scores are told by their name or their labels, and other outputs are given as they are.
"""

import base64
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from serving.dtypes import Datatype
from serving.errors import InvalidArgument
from serving.types import Array, InferenceResponse, Tensor
from serving.wire import images, json_tensors, texts

IMAGE: Final = "image"
FORECAST: Final = "forecast"
TRANSLATION: Final = "translation"
OUTPUT_IDS: Final = "output_ids"
ACROSS: Final = 16  # pictures in a row
# Whose arrays hold something else than the numbers that they stand for.
_NO_NUMBERS: Final = (Datatype.BYTES, Datatype.BF16)


def document(
    labels: Mapping[str, Sequence[str]],
    response: InferenceResponse,
    kind: str,
    columns: Sequence[str],
    top_k: int,
    tokenizer: str = "",
) -> dict[str, Any]:
    """The JSON answer; `labels` are class names by output."""
    answer: dict[str, Any] = {"model": response.model, "version": response.version}
    if kind == IMAGE:
        return answer | {"predictions": _pictures(response)}
    if kind == FORECAST:
        return answer | {"predictions": _series(response, columns)}
    if kind == TRANSLATION:
        return answer | {"predictions": _translations(response, tokenizer)}
    scores = _class_scores(labels, response.outputs)
    if scores is None:
        outputs = {
            tensor.name: {"shape": tensor.array.shape, "data": json_tensors.encode(tensor)}
            for tensor in response.outputs
        }
        return answer | {"outputs": outputs}
    names = labels.get(scores.name, ())
    rows = scores.array.reshape(-1, scores.array.shape[-1])
    return answer | {"predictions": [_prediction(row, names, top_k) for row in rows]}


def png(response: InferenceResponse) -> bytes:
    """The pictures of all examples side by side, in rows of `ACROSS`, as one PNG."""
    pictures = _picture(response).array
    starts = range(0, len(pictures), ACROSS)
    rows = [np.concatenate(list(pictures[start : start + ACROSS]), axis=-1) for start in starts]
    last = np.zeros_like(rows[0])
    last[..., : rows[-1].shape[-1]] = rows[-1]
    return images.encode(np.concatenate([*rows[:-1], last], axis=-2))


def _picture(response: InferenceResponse) -> Tensor:
    """The output that is a picture: (B, channels, height, width)."""
    for tensor in response.outputs:
        array = tensor.array
        is_picture = array.ndim == 4 and array.shape[1] in images.CHANNELS and array.size
        if is_picture and tensor.datatype not in _NO_NUMBERS:
            return tensor
    shapes = ", ".join(
        f"{tensor.name} {list(tensor.array.shape)} of {tensor.datatype.wire}"
        for tensor in response.outputs
    )
    raise InvalidArgument(
        f"model '{response.model}' is to answer with images, but has no output of the shape "
        f"[rows, channels, height, width]: {shapes}"
    )


def _pictures(response: InferenceResponse) -> list[dict[str, Any]]:
    """Each picture, and whatever else there is of it: of a model that does not batch, other
    outputs may be of all pictures together."""
    picture = _picture(response)
    rows = len(picture.array)
    others = [
        tensor
        for tensor in response.outputs
        if tensor is not picture and tensor.array.shape[:1] == (rows,)
    ]
    return [
        {picture.name: "data:image/png;base64," + base64.b64encode(images.encode(row)).decode()}
        | {tensor.name: _told(tensor, tensor.array[index, ...]) for tensor in others}
        for index, row in enumerate(picture.array)
    ]


def _series(response: InferenceResponse, columns: Sequence[str]) -> list[dict[str, Any]]:
    """Each series by its name; the last dimension of the first output tells them apart."""
    output = response.outputs[0]
    array = output.array
    if array.ndim < 2:
        raise InvalidArgument(
            f"model '{response.model}' is to answer with series, but its output '{output.name}' is "
            f"{list(array.shape)}, not [rows, steps, columns]"
        )
    names = columns if len(columns) == array.shape[-1] else range(array.shape[-1])
    return [
        {str(name): _told(output, row[..., place]) for place, name in enumerate(names)}
        for row in array
    ]


def _told(tensor: Tensor, part: Array) -> Any:
    """A part of an output as JSON has it."""
    if tensor.datatype in _NO_NUMBERS:
        return json_tensors.encode(Tensor(tensor.name, tensor.datatype, part))
    return np.ascontiguousarray(part)


def _translations(response: InferenceResponse, tokenizer: str) -> list[dict[str, Any]]:
    """Each text, and whatever else has one value for it."""
    outputs = {tensor.name: tensor.array for tensor in response.outputs}
    ids = outputs.pop(OUTPUT_IDS, None)
    if ids is None or ids.ndim != 2 or ids.dtype.kind not in "iu" or not tokenizer:
        raise InvalidArgument(
            f"model '{response.model}' is to answer with translations, but has no tokenizer.json "
            f"or no output {OUTPUT_IDS} [rows, length]"
        )
    others = {
        name: array[:, 0]
        for name, array in outputs.items()
        if array.shape == (len(ids), 1) and array.dtype != object
    }
    return [
        {TRANSLATION: text} | {name: values[row].item() for name, values in others.items()}
        for row, text in enumerate(texts.written(ids, tokenizer))
    ]


def _class_scores(labels: Mapping[str, Sequence[str]], outputs: Sequence[Tensor]) -> Tensor | None:
    """The output that holds one probability per class: by its name, else the first with labels."""
    by_name = {tensor.name: tensor for tensor in outputs}
    for name in ("probabilities", *labels):
        tensor = by_name.get(name)
        if tensor is not None and tensor.datatype.is_float and _has_classes(tensor.array):
            return tensor
    return None


def _has_classes(scores: Array) -> bool:
    return scores.ndim > 0 and scores.size > 0


def _prediction(row: Array, labels: Sequence[str], top_k: int) -> dict[str, Any]:
    best = np.argsort(-row, kind="stable")[:top_k]
    classes = [
        {
            "label": labels[index] if index < len(labels) else str(index),
            "probability": float(row[index]),
        }
        for index in map(int, best)
    ]
    return {"label": classes[0]["label"], "probability": classes[0]["probability"]} | {
        "classes": classes
    }
