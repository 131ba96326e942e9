"""The decoders of whatever comes from outside, each with inputs to start from."""

import io
import json
import re
from collections.abc import Callable
from functools import partial
from typing import Any, Final

import numpy as np
from google.protobuf import json_format
from google.protobuf.message import DecodeError
from PIL import Image
from tritonclient.grpc import service_pb2

from serving.config import Proto, Source, choose, complete, from_json, parse, resolve
from serving.config.commented import commented
from serving.dtypes import Datatype
from serving.engine.override import check_files
from serving.errors import InvalidArgument
from serving.types import LoadOverride, Signature, TensorSpec
from serving.wire import (
    generate,
    images,
    json_examples,
    proto,
    proto_stream,
    repository_requests,
    rest,
    rest_documents,
)
from tests.fuzz.fuzzer import Target
from tests.fuzz.structure import after_byte, before, in_config, in_json, in_message

# Between the JSON and the binary tensors of a request, in place of the header that tells the size.
SEPARATOR: Final = b"\n\xff\n"

_DATATYPES: Final = tuple(datatype.wire.encode() for datatype in Datatype)
_JSON_WORDS: Final = (
    *(b"{", b"}", b"[", b"]", b",", b":", b'"', b"\\", b"\\ud800", b"\\u0000", b"\xf0\x9f\x98\x80"),
    *(b"null", b"true", b"false", b"NaN", b"-Infinity", b"1e999", b"[[", b"{}", b"[]", b'""'),
    *(b'"id":', b'"inputs":', b'"outputs":', b'"parameters":', b'"name":', b'"shape":', b'"data":'),
    *(b'"datatype":', b'"binary_data_size":', b'"binary_data":', b'"binary_data_output":'),
    *(b'"classification":', b'"shared_memory_region":', b'"sequence_id":', b'"timeout":'),
    *_DATATYPES,
)
_SPECS: Final = (
    TensorSpec("a", Datatype.FP32, (-1, 2)),
    TensorSpec("text", Datatype.BYTES, (-1, 1)),
    TensorSpec("b", Datatype.UINT8, (-1, 2, -1)),
)
# A raw request of two numbers.
_HALVES: Final = b"0\n" + np.array([0.5, 0.5], "<f4").tobytes()
_IMAGE: Final = TensorSpec("image", Datatype.UINT8, (3, 4, 4))
_SIGNATURE: Final = Signature(
    (TensorSpec("a", Datatype.FP32, (-1, 2)), TensorSpec("b", Datatype.UINT8, (-1, 2, -1))),
    (TensorSpec("y", Datatype.FP32, (-1, 3)), TensorSpec("best", Datatype.INT64, (-1,))),
)


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
    return rest.decode_raw_infer("m", "", body, [_SPECS[choice % len(_SPECS)]], choice % 2)


def _message(**fields: Any) -> Any:
    return service_pb2.ModelInferRequest(model_name="m", **fields)


def _proto_seeds() -> list[bytes]:
    typed = {
        "BOOL": ("bool_contents", [True, False]),
        "INT32": ("int_contents", [1, -2]),
        "INT64": ("int64_contents", [1, -(2**60)]),
        "UINT8": ("uint_contents", [1, 255]),
        "UINT64": ("uint64_contents", [1, 2**64 - 1]),
        "FP32": ("fp32_contents", [0.5, float("nan")]),
        "FP64": ("fp64_contents", [0.5, 1e300]),
        "BYTES": ("bytes_contents", [b"a", b""]),
    }
    whole = _message(id="r", model_version="1")
    for datatype, (field, values) in typed.items():
        item = whole.inputs.add(name=datatype.lower(), datatype=datatype, shape=[2])
        getattr(item.contents, field).extend(values)
    whole.outputs.add(name="y").parameters["classification"].int64_param = 2
    whole.parameters["sequence_id"].string_param = "s"
    whole.parameters["triton_enable_empty_final_response"].bool_param = True
    raw = _message(raw_input_contents=[b"\0\0\x80?" * 2, b"\1\0\0\0a\0\0\0\0"])
    raw.inputs.add(name="a", datatype="FP32", shape=[1, 2])
    raw.inputs.add(name="text", datatype="BYTES", shape=[2])
    return [message.SerializeToString() for message in (whole, raw)]


def _decode_proto(content: bytes) -> object:
    message = _parsed(service_pb2.ModelInferRequest, content)
    return proto_stream.wants_empty_final(message), proto.decode_infer(message)


def _parsed(kind: Any, content: bytes) -> Any:
    try:
        return kind.FromString(content)
    except DecodeError:
        # gRPC refuses such bytes before they reach us.
        raise InvalidArgument("no message") from None


def _load_seeds() -> list[bytes]:
    """For the first byte 0 loads, 1 unloads, 2 asks for the index."""
    files = {"file:1/model.onnx": "AAEC", "file:labels.txt": "YQpiCg=="}
    return [
        b"\0" + json.dumps({"parameters": {"config": '{"max_batch_size": 8}', **files}}).encode(),
        b"\0",
        b'\1{"parameters": {"unload_dependents": true}}',
        b'\2{"ready": true}',
    ]


def _decode_load(content: bytes) -> object:
    choice, body = content[:1], content[1:]
    if choice == b"\1":
        return repository_requests.unload_from_json(body)
    if choice == b"\2":
        return rest_documents.index_request(body)
    return _checked(repository_requests.load_from_json(body))


def _load_message_seeds() -> list[bytes]:
    load = service_pb2.RepositoryModelLoadRequest(model_name="m")
    load.parameters["config"].string_param = '{"name": "m"}'
    load.parameters["file:1/model.onnx"].bytes_param = b"\0\1\2"
    return [bytes(load.SerializeToString())]


def _decode_load_message(content: bytes) -> object:
    message = _parsed(service_pb2.RepositoryModelLoadRequest, content)
    return _checked(repository_requests.load_from_proto(message))


def _checked(override: LoadOverride) -> object:
    check_files(override.files, override.config is not None)
    return override.config and from_json(override.config, "the parameter 'config'")


def _load_config_seeds() -> list[bytes]:
    parsed = [parse(seed.decode(), "") for seed in _config_seeds()]
    return [
        json_format.MessageToJson(proto, preserving_proto_field_name=True).encode()
        for proto in parsed
    ]


def _decode_load_config(content: bytes) -> object:
    text = content.decode(errors="replace")
    return _served(from_json(text, "the parameter 'config'"), Source("the parameter 'config'"))


def _config_seeds() -> list[bytes]:
    source = Source("m")
    inferred = complete(resolve(None, "m", source, files=["model.onnx"]), _SIGNATURE, source)
    specs = (*_SIGNATURE.inputs, *_SIGNATURE.outputs)
    text = commented(inferred, _SIGNATURE, {spec.name: ("n",) * len(spec.dims) for spec in specs})
    # As it is, without comments, and with every option that has no alternative.
    plain = re.sub(r"(?m)^ *#.*\n", "", text)
    options = re.sub(r"(?m)^( *)#(?! |version_policy)", r"\1", text)
    return [text.encode(), plain.encode(), options.encode()]


def _decode_config(content: bytes) -> object:
    text = content.decode(errors="replace")
    source = Source("config.pbtxt", text)
    return _served(parse(text, source.name), source)


def _served(parsed: Proto, source: Source) -> object:
    resolved = resolve(parsed, "m", source, files=["model.onnx"])
    return choose(parsed, [1, 2, 3]), complete(resolved, _SIGNATURE, source)


_CONFIG_WORDS: Final = (
    *(b"{", b"}", b"[", b"]", b"<", b">", b":", b";", b",", b"#", b'"', b"'", b"\\", b"\n"),
    *(b"-1", b"input {", b"output {", b"dims: ", b"name: ", b"reshape { shape: [ ] }"),
    *(b"data_type: TYPE_", b"FP32", b"STRING", b"max_batch_size: ", b"optional: true"),
    *(b"version_policy { all { } }", b"instance_group { ", b"kind: KIND_CPU", b"count: "),
    *(b"dynamic_batching { ", b"preferred_batch_size: ", b"ensemble_scheduling { step { "),
    *(b'parameters { key: "execution_mode" value { string_value: "', b"sequence_batching { "),
)


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
    return decode(content[1:], _SPECS[choice % len(_SPECS)])


def _decode_generate(body: bytes) -> object:
    return generate.decode("m", "", body, _SPECS)


TARGETS: Final = {
    target.name: target
    for target in (
        Target("json", partial(rest.decode_infer, "m", ""), _json_seeds(), _JSON_WORDS, in_json),
        Target(
            "binary",
            _decode_binary,
            _binary_seeds(),
            (*_JSON_WORDS, SEPARATOR, bytes(4)),
            before(SEPARATOR, in_json),
        ),
        Target(
            "raw",
            _decode_raw,
            [b"\0" + _HALVES, b"\x010\ntext", b"\x050\n\1\2\3\4", b'\x0013\n{"inputs":[]}'],
            (b"\n", b"0\n", *_JSON_WORDS),
            after_byte(lambda rng, body: body),
        ),
        Target(
            "generate",
            _decode_generate,
            [
                b'{"a": [[1, 2.5]], "text": "t", "temperature": 0.5}',
                b'{"id": "r", "text": ["t"], "parameters": {"b": [1, 2], "stream": false}}',
            ],
            (*_JSON_WORDS, b'"a":', b'"text":', b'"b":'),
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
            _JSON_WORDS,
            after_byte(in_json),
        ),
        Target(
            "proto",
            _decode_proto,
            _proto_seeds(),
            (*_DATATYPES, b"\x2a", b"\x3a", b"\x0a"),
            in_message(service_pb2.ModelInferRequest),
        ),
        Target(
            "load",
            _decode_load,
            _load_seeds(),
            (*_JSON_WORDS, b'"config":', b'"file:', b"1/", b"../", b"/etc/", b"QUJD", b"=="),
            after_byte(in_json),
            loads=True,
        ),
        Target(
            "load_message",
            _decode_load_message,
            _load_message_seeds(),
            (b"config", b"file:1/", b"../", b"\x0a", b"\x12", b"\x1a"),
            in_message(service_pb2.RepositoryModelLoadRequest),
            loads=True,
        ),
        Target(
            "load_config",
            _decode_load_config,
            _load_config_seeds(),
            (*_JSON_WORDS, b'"dims":', b'"max_batch_size":', b'"TYPE_', b'"value":'),
            in_json,
            loads=True,
        ),
        Target("config", _decode_config, _config_seeds(), _CONFIG_WORDS, in_config, loads=True),
        Target(
            "image",
            lambda content: images.decode(content, _IMAGE, "FORMAT_NCHW"),
            _image_seeds(),
            (b"IHDR", b"IDAT", b"PLTE", b"tRNS", b"Exif\0\0", b"VP8L", b"\xff\xda", b"\xff\xe1"),
        ),
    )
}
