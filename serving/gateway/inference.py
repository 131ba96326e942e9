"""From the body of an infer request to its answer: what the route and the hot lane share."""

import time
from collections.abc import Sequence
from functools import partial
from typing import Final, TypeAlias

import numpy as np

from serving.engine.base import Engine
from serving.errors import InvalidArgument, ServingError, Unsupported
from serving.gateway import answers, body
from serving.gateway.answers import Answer
from serving.gateway.aside import Aside
from serving.gateway.precedence import tell_of_the_model
from serving.gateway.server_timing import server_timing
from serving.shared_memory import Regions
from serving.types import InferenceRequest, InferenceResponse
from serving.wire import rest as wire
from serving.wire import rest_answers

# What is quicker sent from several places than copied to one.
_LARGE: Final = 64 * 1024
# JSON of so many bytes, and of so many elements, takes longer than the others shall wait for.
_LONG: Final = 512 * 1024
_MANY: Final = 64 * 1024
_ASIDE_AT_ONCE: Final = 2

_Decoded: TypeAlias = tuple[InferenceRequest, rest_answers.OutputEncoding]


class Inference:
    """Answers infer requests by `engine`; tensors may lie in `regions`, if there are any."""

    def __init__(self, engine: Engine, regions: Regions | None) -> None:
        self._engine = engine
        self._regions = regions
        self._aside = Aside(_ASIDE_AT_ONCE)

    async def __call__(
        self,
        model: str,
        version: str,
        content: bytes | memoryview,
        header_length: str | None,
        accepted: str,
    ) -> Answer:
        """The answer to `content`, the unpacked body.

        `header_length` is the header HEADER_LENGTH (None: not sent), `accepted` an Accept-Encoding.
        Raises ServingError.
        """
        began = time.monotonic_ns()
        try:
            request, encoding = await self._decode(model, version, content, header_length)
            response = await self._engine.infer(request)
            if _takes_long(response, encoding):
                encoded = await self._aside(partial(rest_answers.encode_infer, response, encoding))
            else:
                encoded = rest_answers.encode_infer(response, encoding)
        except ServingError as error:
            error.took = time.monotonic_ns() - began
            raise
        parts, json_length = encoded
        headers: dict[str, str] = {}
        tensors: Sequence[rest_answers.Buffer] = ()
        if accepted:
            content, headers = await body.pack(b"".join(parts), accepted)
        elif sum(map(len, parts)) > _LARGE:
            content, tensors = bytes(parts[0]), [_apart(part) for part in parts[1:]]
        else:
            content = b"".join(parts)
        if response.timing is not None:
            elapsed = time.monotonic_ns() - began
            headers["Server-Timing"] = server_timing(response.timing, elapsed)
        if json_length is None:
            return Answer(content, headers=headers, tensors=tensors)
        headers[wire.HEADER_LENGTH] = str(json_length)
        return Answer(content, media_type=answers.BINARY, headers=headers, tensors=tensors)

    async def _decode(
        self, model: str, version: str, content: bytes | memoryview, header_length: str | None
    ) -> _Decoded:
        try:
            length = None
            if header_length is not None:
                length = wire.parse_header_length(header_length, len(content))
            if length == 0:
                return await self._decode_raw(model, version, content)
            if (len(content) if length is None else length) > _LONG:
                return await self._decode_aside(model, version, content, length)
            return wire.decode_infer(model, version, content, length, self._regions)
        except InvalidArgument:
            await tell_of_the_model(self._engine, model, version)
            raise

    async def _decode_aside(
        self, model: str, version: str, content: bytes | memoryview, length: int | None
    ) -> _Decoded:
        """The same, while others go on, and may take away regions: these are not touched."""
        try:
            return await self._aside(partial(wire.decode_infer, model, version, content, length))
        except Unsupported:
            if self._regions is None:
                raise
            return wire.decode_infer(model, version, content, length, self._regions)

    async def _decode_raw(self, model: str, version: str, content: bytes | memoryview) -> _Decoded:
        metadata = await self._engine.model_metadata(model, version)
        return wire.decode_raw_infer(
            model, version, content, metadata.inputs, metadata.max_batch_size
        )


def _takes_long(response: InferenceResponse, encoding: rest_answers.OutputEncoding) -> bool:
    """Whether much JSON is to be written; what goes to regions is not for another thread."""
    if encoding is rest_answers.ALL_BINARY or encoding.places:
        return False
    return any(
        tensor.array.size > _MANY and not encoding.is_binary(tensor.name)
        for tensor in response.outputs
    )


def _apart(buffer: rest_answers.Buffer) -> rest_answers.Buffer:
    """The tensor in its place, unless it is one request's share of what a batch gave.

    While its client takes its time to read it, the answers of all others would stay with it.
    """
    whole = getattr(getattr(buffer, "obj", None), "base", None)
    return bytes(buffer) if isinstance(whole, np.ndarray) and whole.nbytes > len(buffer) else buffer
