"""The endpoint people want to type by hand: a picture, a text or a table in, an answer out."""

import asyncio
import time
from collections.abc import Callable, Mapping, MutableMapping, Sequence
from email.message import Message
from functools import partial
from typing import Annotated, Any, Final

import numpy as np
from fastapi import APIRouter, Path, Query, Request, Response
from starlette.datastructures import Headers, UploadFile
from starlette.exceptions import HTTPException

from serving.engine.base import Engine
from serving.errors import InvalidArgument, Malformed
from serving.gateway import body, examples, predictions
from serving.gateway.aside import Aside
from serving.gateway.disconnect import unless_gone
from serving.gateway.server_timing import failures_since
from serving.gateway.server_timing import headers as timed
from serving.types import (
    Array,
    InferenceRequest,
    ModelMetadata,
    Tensor,
    TensorSpec,
)
from serving.wire import images, json_examples, json_text, latents, tables, texts

DEFAULT_TOP_K: Final = 5
DEFAULT_BEAMS: Final = 4
_MOST_BEAMS: Final = 8
_MAX_FILES: Final = 256
# The largest picture takes some 800 MB while it is decoded, whatever its file has.
_MAX_DECODED_AT_ONCE: Final = 2
# By all names that texts in UTF-8, or in its first half, go by.
_CHARSETS: Final = ("utf-8", "utf8", "us-ascii", "ascii")
# To read more numbers than these takes longer than going to another thread and back.
_LONG: Final = 64 * 1024


def create_router(engine: Engine, limit: int) -> APIRouter:
    """The route `/predict/{model}`; `limit` is the largest body in bytes."""
    router = APIRouter(tags=["predict"])
    decoding = Aside(_MAX_DECODED_AT_ONCE)

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
        beams: Annotated[
            int,
            Query(
                ge=1, le=_MOST_BEAMS, description="How wide to search translations; 1: greedily."
            ),
        ] = DEFAULT_BEAMS,
    ) -> Response:
        """Labels with probabilities for an image file, a text, or a JSON list of numbers.

        Send PNG, JPEG or WebP as the raw body or as form uploads (each file one example), or JSON:
        one example or a list of examples, bare or under the key `inputs`. Where a model's columns
        have names, objects and CSV with these names do as well. Models of texts take
        `{"text": "..."}`, lists of texts, and plain text, uploads as well, and translators answer
        with the translation of each. A model that makes pictures answers with a PNG, or with JSON
        where `Accept` asks for it; one that makes them of chance takes
        `{"seed": 7, "pictures": 16}`, both if you like.
        """
        metadata = await engine.model_metadata(model, version)
        parameters = (await engine.model_config(model, version)).parameters
        kind = parameters["prediction"].string_value if "prediction" in parameters else ""
        columns = _columns(parameters)
        drawn = "latent" in parameters
        if not metadata.tokenizer:
            _only_input(metadata)  # before the body is read
        content = await body.read(request, limit)
        began = time.monotonic_ns()
        with failures_since(began):
            if metadata.tokenizer:
                if _media_type(request) == "application/json":
                    read = partial(texts.from_json, content)
                else:
                    read = partial(texts.from_plain, await _files(request, content))
                inputs = await decoding(partial(_tokens, read, metadata, beams))
            else:
                inputs = (await _numbers(request, content, metadata, columns, drawn, decoding),)
            work = engine.infer(InferenceRequest(model, inputs, version))
            response = await unless_gone(request, work)
        if kind == predictions.IMAGE and "application/json" not in request.headers.get(
            "accept", ""
        ):
            picture = await asyncio.to_thread(predictions.png, response)
            return Response(picture, headers=timed(response, began), media_type="image/png")
        labels = await engine.labels(model, version)
        given = labels, response, kind, columns, top_k, metadata.tokenizer
        make = partial(predictions.document, *given)
        # To pack a large picture takes its time, which the other requests shall not wait for.
        document = await asyncio.to_thread(make) if kind == predictions.IMAGE else make()
        answer = json_text.dumps(document)
        return Response(answer, headers=timed(response, began), media_type="application/json")

    return router


async def _numbers(
    request: Request,
    content: bytes,
    metadata: ModelMetadata,
    columns: Sequence[str],
    drawn: bool,
    decoding: Aside,
) -> Tensor:
    """The one input of a model of pictures, tables or series, or of one whose input may be `drawn`
    by chance."""
    spec = _only_input(metadata)
    is_long = len(content) > _LONG
    decode: Callable[[], Array]
    if _media_type(request) == "application/json":
        most = max(1, metadata.max_batch_size) if drawn else 0
        decode = partial(_from_json, content, spec, columns, most)
    elif _media_type(request) == "text/csv":
        _refuse_other_charsets("body", request.headers)
        decode = partial(tables.from_csv, content, spec, columns)
    else:
        layout = metadata.formats.get(spec.name, "FORMAT_NONE")
        decode = partial(_decode, await _files(request, content), spec, layout)
        is_long = True  # as pictures, however short the files are
    if is_long:
        # It takes its time, which the other requests shall not wait for.
        array = await decoding(decode)
    else:
        array = decode()
    if not metadata.max_batch_size:
        array = _single(array, metadata)
    return Tensor(spec.name, spec.datatype, array)


def _from_json(content: bytes, spec: TensorSpec, columns: Sequence[str], most: int) -> Array:
    """The examples in `content`, or up to `most` that are drawn by chance."""
    array = latents.decode(content, spec, most) if most else None
    return json_examples.decode(content, spec, columns) if array is None else array


def _tokens(
    read: Callable[[], Sequence[str]], metadata: ModelMetadata, beams: int
) -> tuple[Tensor, ...]:
    """The inputs of a model of texts."""
    return texts.tokenise(read(), metadata.tokenizer, metadata.inputs, beams)


def _columns(parameters: Mapping[str, Any]) -> tuple[str, ...]:
    """The names along the last dimension of the input, where the configuration gives any."""
    if "columns" not in parameters:
        return ()
    return tuple(name.strip() for name in parameters["columns"].string_value.split(","))


def _media_type(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _refuse_other_charsets(where: str, headers: Headers) -> None:
    """Malformed for a text that says it is not UTF-8: some others would be read as if they were."""
    message = Message()
    message["content-type"] = headers.get("content-type", "")
    charset = message.get_content_charset("utf-8")
    if message.get_content_maintype() == "text" and charset not in _CHARSETS:
        raise Malformed(f"{where}: its charset is {charset!r}; texts are taken as UTF-8")


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
    """The files of a form, or the body itself; each with what to call it in a message."""
    if _media_type(request) != "multipart/form-data":
        _refuse_other_charsets("body", request.headers)
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
            parts = [part for _, part in form.multi_items() if isinstance(part, UploadFile)]
            for part in parts:
                _refuse_other_charsets(f"file {part.filename!r}", part.headers)
            files = [(f"file {part.filename!r}", await part.read()) for part in parts]
    except HTTPException as error:
        raise InvalidArgument(f"the form cannot be read: {error.detail}") from None
    if not files:
        raise InvalidArgument(
            "the form holds no file; expected one for each example, as in -F file=@digit.png"
        )
    return files
