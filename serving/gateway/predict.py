"""The endpoint people want to type by hand: send a picture or a list, get labels."""

import asyncio
from collections.abc import MutableMapping, Sequence
from typing import Annotated, Any, Final

import numpy as np
from fastapi import APIRouter, Path, Query, Request, Response
from starlette.datastructures import UploadFile
from starlette.exceptions import HTTPException

from serving.engine.base import Engine
from serving.errors import InvalidArgument
from serving.gateway import body, examples
from serving.types import (
    Array,
    InferenceRequest,
    InferenceResponse,
    ModelMetadata,
    Tensor,
    TensorSpec,
)
from serving.wire import images, json_examples, json_tensors, json_text

DEFAULT_TOP_K: Final = 5
_MAX_FILES: Final = 256


def create_router(engine: Engine, limit: int) -> APIRouter:
    """The route `/predict/{model}`; `limit` is the largest body in bytes."""
    router = APIRouter(tags=["predict"])

    @router.post("/predict/{model}", openapi_extra=examples.PREDICT, responses=examples.PREDICTED)
    async def predict(
        request: Request,
        model: Annotated[
            str, Path(description="The model's name.", openapi_examples=examples.MODEL)
        ],
        version: Annotated[str, Query(description="A version's number; else the policy's.")] = "",
        top_k: Annotated[
            int, Query(ge=1, description="How many classes to return per example.")
        ] = DEFAULT_TOP_K,
    ) -> Response:
        """Labels with probabilities for an image file or for a JSON list of numbers.

        Send PNG, JPEG or WebP as the raw body or as form uploads (each file one example), or JSON:
        one example or a list of examples, bare or under the key `inputs`.
        """
        metadata = await engine.model_metadata(model, version)
        spec = _only_input(metadata)
        content = await body.read(request, limit)
        if _media_type(request) == "application/json":
            array = json_examples.decode(content, spec)
        else:
            layout = metadata.formats.get(spec.name, "FORMAT_NONE")
            files = await _files(request, content)
            # A large picture takes its time, which the other requests shall not wait for.
            array = await asyncio.to_thread(_decode, files, spec, layout)
        if not metadata.max_batch_size:
            array = _single(array, metadata)
        response = await engine.infer(
            InferenceRequest(
                model=model,
                version=version,
                inputs=(Tensor(spec.name, spec.datatype, array),),
            )
        )
        return Response(
            json_text.dumps(_answer(metadata, response, top_k)), media_type="application/json"
        )

    return router


def _media_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _only_input(metadata: ModelMetadata) -> TensorSpec:
    """The model's input as one example of it, without the batch dimension."""
    if len(metadata.inputs) != 1:
        raise InvalidArgument(
            f"model '{metadata.name}' takes {len(metadata.inputs)} inputs; /predict answers models "
            f"with one. Use /v2/models/{metadata.name}/infer"
        )
    spec = metadata.inputs[0]
    dims = spec.dims[1:] if metadata.max_batch_size else spec.dims
    return TensorSpec(spec.name, spec.datatype, dims)


def _single(array: Array, metadata: ModelMetadata) -> Array:
    if len(array) != 1:
        raise InvalidArgument(
            f"model '{metadata.name}' does not batch: expected one example, got {len(array)}"
        )
    example: Array = array[0]
    return example


def _decode(files: Sequence[tuple[str, bytes]], spec: TensorSpec, layout: str) -> Array:
    return np.stack([images.decode(content, spec, layout, field) for field, content in files])


async def _files(request: Request, content: bytes) -> list[tuple[str, bytes]]:
    """The image files of a form, or the body itself; each with what to call it in a message."""
    if _media_type(request) != "multipart/form-data":
        return [("body", content)]
    sent = False

    async def receive() -> MutableMapping[str, Any]:
        nonlocal sent
        if sent:
            return {"type": "http.disconnect"}
        sent = True
        return {"type": "http.request", "body": content, "more_body": False}

    try:
        async with Request(request.scope, receive).form(max_files=_MAX_FILES) as form:
            files = [
                (f"file {part.filename!r}", await part.read())
                for _, part in form.multi_items()
                if isinstance(part, UploadFile)
            ]
    except HTTPException as error:
        raise InvalidArgument(f"the form cannot be read: {error.detail}") from None
    if not files:
        raise InvalidArgument("the form holds no file; expected an image, as in -F file=@digit.png")
    return files


def _answer(metadata: ModelMetadata, response: InferenceResponse, top_k: int) -> dict[str, Any]:
    answer: dict[str, Any] = {"model": response.model, "version": response.version}
    scores = _class_scores(metadata, response.outputs)
    if scores is None:
        outputs = {
            tensor.name: {"shape": tensor.array.shape, "data": json_tensors.encode(tensor)}
            for tensor in response.outputs
        }
        return answer | {"outputs": outputs}
    labels = metadata.labels.get(scores.name, ())
    rows = scores.array.reshape(-1, scores.array.shape[-1])
    return answer | {"predictions": [_prediction(row, labels, top_k) for row in rows]}


def _class_scores(metadata: ModelMetadata, outputs: Sequence[Tensor]) -> Tensor | None:
    """The output that holds one probability per class: by its name, else the first with labels."""
    by_name = {tensor.name: tensor for tensor in outputs}
    for name in ("probabilities", *metadata.labels):
        tensor = by_name.get(name)
        if tensor is not None and tensor.datatype.is_float and tensor.array.ndim:
            return tensor
    return None


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
