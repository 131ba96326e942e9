"""Requests over REST: JSON, binary tensors, raw bodies, generate, examples and pictures."""

import io
import json
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import numpy as np
from PIL import Image

from serving.dtypes import Datatype
from serving.types import TensorSpec
from serving.wire import generate, images, json_examples, rest
from tests.fuzz.fuzzer import Target
from tests.fuzz.structure import after_byte, before, in_json
from tests.fuzz.vocabulary import JSON_WORDS, SPECS

# Between the JSON and the binary tensors of a request, in place of the header that tells the size.
SEPARATOR: Final = b"\n\xff\n"

# A raw request of two numbers.
_HALVES: Final = b"0\n" + np.array([0.5, 0.5], "<f4").tobytes()
_IMAGE: Final = TensorSpec("image", Datatype.UINT8, (3, 4, 4))


def _json_seeds() -> list[bytes]:
    tensors = [
        {"name": "a", "shape": [2, 2], "datatype": "INT8", "data": [[1, 2], [3, 4]]},
        {"name": "b", "shape": [2], "datatype": "FP32", "data": [0.5, -1e3]},
        {"name": "c", "shape": [1], "datatype": "BYTES", "data": ["a \u00e9 text"]},
        {"name": "d", "shape": [2, 1], "datatype": "BOOL", "data": [True, False]},
        {"name": "e", "shape": [1], "datatype": "UINT64", "data": [2**64 - 1]},
        {"name": "f", "shape": [0], "datatype": "FP64", "data": []},
    ]
    whole = {
        "id": "r",
        "parameters": {"sequence_id": 1, "priority": 2, "timeout": 10, "mine": 0.5},
        "inputs": tensors,
        "outputs": [{"name": "y", "parameters": {"classification": 2}}, {"name": "z"}],
    }
    alone = [{"inputs": [tensor]} for tensor in tensors]
    return [json.dumps(document).encode() for document in (whole, *alone)]


def _binary_seeds() -> list[bytes]:
    header = {
        "inputs": [
            _binary("a", "FP16", 4),
            _binary("b", "BF16", 4),
            _binary("c", "BYTES", 9),
            _binary("d", "BOOL", 2),
        ],
        "outputs": [{"name": "y", "parameters": {"binary_data": True}}],
        "parameters": {"binary_data_output": True},
    }
    data = np.array([1, 2], "<f2").tobytes() * 2 + b"\1\0\0\0a\0\0\0\0" + b"\1\0"
    alone = {"inputs": [_binary("c", "BYTES", 9)]}
    return [
        json.dumps(header).encode() + SEPARATOR + data,
        json.dumps(alone).encode() + SEPARATOR + data[8:17],
    ]


def _binary(name: str, datatype: str, size: int) -> dict[str, Any]:
    return {
        "name": name,
        "datatype": datatype,
        "shape": [2],
        "parameters": {"binary_data_size": size},
    }


def _decode_binary(content: bytes) -> object:
    text, _, data = content.partition(SEPARATOR)
    return rest.decode_infer("m", "", text + data, len(text))


def _decode_raw(content: bytes) -> object:
    """The first byte chooses the model, the first line is the header that tells the JSON's size."""
    head, _, body = content[1:].partition(b"\n")
    length = rest.parse_header_length(head, len(body))
    if length:
        return rest.decode_infer("m", "", body, length)
    choice = content[0] if content else 0
    return rest.decode_raw_infer("m", "", body, [SPECS[choice % len(SPECS)]], choice % 2)


def _image_seeds() -> list[bytes]:
    seeds = []
    for mode in ("L", "RGB", "RGBA", "P"):
        for kind in images.FORMATS:
            if (mode, kind) in (("RGBA", "JPEG"), ("P", "JPEG")):
                continue  # which JPEG has no room for
            buffer = io.BytesIO()
            Image.new(mode, (5, 3)).save(buffer, kind)
            seeds.append(buffer.getvalue())
    return seeds


def _decode_any(decode: Callable[..., object], content: bytes) -> object:
    """The first byte chooses the model's input."""
    choice = content[0] if content else 0
    return decode(content[1:], SPECS[choice % len(SPECS)])


def _decode_generate(body: bytes) -> object:
    return generate.decode("m", "", body, SPECS)


TARGETS: Final = (
    Target("json", partial(rest.decode_infer, "m", ""), _json_seeds(), JSON_WORDS, in_json),
    Target(
        "binary",
        _decode_binary,
        _binary_seeds(),
        (*JSON_WORDS, SEPARATOR, bytes(4)),
        before(SEPARATOR, in_json),
    ),
    Target(
        "raw",
        _decode_raw,
        [b"\0" + _HALVES, b"\x010\ntext", b"\x050\n\1\2\3\4", b'\x0013\n{"inputs":[]}'],
        (b"\n", b"0\n", *JSON_WORDS),
        after_byte(lambda rng, body: body),
    ),
    Target(
        "generate",
        _decode_generate,
        [
            b'{"a": [[1, 2.5]], "text": "t", "temperature": 0.5}',
            b'{"id": "r", "text": ["t"], "parameters": {"b": [1, 2], "stream": false}}',
        ],
        (*JSON_WORDS, b'"a":', b'"text":', b'"b":'),
        in_json,
    ),
    Target(
        "examples",
        partial(_decode_any, json_examples.decode),
        [
            b"\0[[1, 2], [3, 4]]",
            b'\0{"inputs": [[0.5, 1]]}',
            b'\1[["a"], ["b"]]',
            b"\2[[[[1], [2]]]]",
        ],
        JSON_WORDS,
        after_byte(in_json),
    ),
    Target(
        "image",
        lambda content: images.decode(content, _IMAGE, "FORMAT_NCHW"),
        _image_seeds(),
        (b"IHDR", b"IDAT", b"PLTE", b"tRNS", b"Exif\0\0", b"VP8L", b"\xff\xda", b"\xff\xe1"),
    ),
)
