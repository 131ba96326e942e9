"""What is asked of the repository, and configurations: as files and as clients send them."""

import json
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Final

from google.protobuf import json_format
from tritonclient.grpc import service_pb2

from serving.config import Proto, Source, choose, complete, from_json, parse, resolve
from serving.config.commented import commented
from serving.dtypes import Datatype
from serving.engine.override import check_files
from serving.types import LoadOverride, Signature, TensorSpec
from serving.wire import (
    log_settings,
    repository_requests,
    rest_documents,
    shared_memory_requests,
    trace_settings,
)
from tests.fuzz.fuzzer import Target
from tests.fuzz.messages import parsed
from tests.fuzz.structure import after_byte, in_config, in_json, in_message
from tests.fuzz.vocabulary import JSON_WORDS

_SIGNATURE: Final = Signature(
    (TensorSpec("a", Datatype.FP32, (-1, 2)), TensorSpec("b", Datatype.UINT8, (-1, 2, -1))),
    (TensorSpec("y", Datatype.FP32, (-1, 3)), TensorSpec("best", Datatype.INT64, (-1,))),
)


# What else is asked of a server by small documents.
_CONTROLS: Final[Mapping[bytes, Callable[[bytes], object]]] = {
    b"\1": repository_requests.unload_from_json,
    b"\2": rest_documents.index_request,
    b"\3": partial(shared_memory_requests.register_from_json, "r"),
    b"\4": log_settings.from_json,
    b"\5": trace_settings.from_json,
}


def _load_seeds() -> list[bytes]:
    """For the first byte 0: a load, or what `_CONTROLS` has for others."""
    files = {"file:1/model.onnx": "AAEC", "file:labels.txt": "YQpiCg=="}
    return [
        b"\0" + json.dumps({"parameters": {"config": '{"max_batch_size": 8}', **files}}).encode(),
        b"\0",
        b'\1{"parameters": {"unload_dependents": true}}',
        b'\2{"ready": true}',
        b'\3{"key": "/r", "offset": 0, "byte_size": 8}',
        b'\4{"log_info": true, "log_verbose_level": 1, "log_format": "default"}',
        b'\5{"trace_level": ["TIMESTAMPS"], "trace_rate": "1", "trace_count": null}',
    ]


def _decode_load(content: bytes) -> object:
    decode = _CONTROLS.get(content[:1])
    if decode is not None:
        return decode(content[1:])
    return _checked(repository_requests.load_from_json(content[1:]))


def _load_message_seeds() -> list[bytes]:
    load = service_pb2.RepositoryModelLoadRequest(model_name="m")
    load.parameters["config"].string_param = '{"name": "m"}'
    load.parameters["file:1/model.onnx"].bytes_param = b"\0\1\2"
    return [bytes(load.SerializeToString())]


def _decode_load_message(content: bytes) -> object:
    message = parsed(service_pb2.RepositoryModelLoadRequest, content)
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
    return [text.encode(), plain.encode(), options.encode(), *_FRAGMENTS]


def _decode_config(content: bytes) -> object:
    text = content.decode(errors="replace")
    source = Source("config.pbtxt", text)
    return _served(parse(text, source.name), source)


def _served(parsed: Proto, source: Source) -> object:
    resolved = resolve(parsed, "m", source, files=["model.onnx"])
    return choose(parsed, [1, 2, 3]), complete(resolved, _SIGNATURE, source)


# A feature each: what is short is decoded more often in the same time.
_FRAGMENTS: Final = (
    b"",
    b'name: "m" backend: "onnxruntime" max_batch_size: 8',
    b"max_batch_size: 0 optimization { execution_accelerators { } }",
    b"version_policy { latest { num_versions: 2 } }",
    b"version_policy { specific { versions: [ 1, 3 ] } }",
    b"instance_group [ { kind: KIND_CPU count: 2 } ]",
    b"max_batch_size: 8\n"
    b"dynamic_batching { preferred_batch_size: [ 4, 8 ] max_queue_delay_microseconds: 100 }",
    b"dynamic_batching { priority_levels: 3 default_priority_level: 2\n"
    b"  default_queue_policy { timeout_action: DELAY default_timeout_microseconds: 9 }\n"
    b"  priority_queue_policy { key: 1 value { max_queue_size: 4 } } }",
    b"model_warmup { name: 'w' batch_size: 1 inputs { key: 'a'\n"
    b"  value { data_type: TYPE_FP32 dims: 2 zero_data: true } } }",
    b"model_transaction_policy { decoupled: false } response_cache { enable: true }",
    b'parameters { key: "intra_op_thread_count" value { string_value: "2" } }',
    b"output { name: 'y' data_type: TYPE_FP32 dims: 3 label_filename: 'labels.txt' }",
)

_CONFIG_WORDS: Final = (
    *(b"{", b"}", b"[", b"]", b"<", b">", b":", b";", b",", b"#", b'"', b"'", b"\\", b"\n"),
    *(b"-1", b"input {", b"output {", b"dims: ", b"name: ", b"reshape { shape: [ ] }"),
    *(
        b"kind: 1",
        b"data_type: 11",
        b"data_type: TYPE_",
        b"FP32",
        b"STRING",
        b"max_batch_size: ",
        b"optional: true",
    ),
    *(b"version_policy { all { } }", b"instance_group { ", b"kind: KIND_CPU", b"count: "),
    *(b"dynamic_batching { ", b"preferred_batch_size: ", b"ensemble_scheduling { step { "),
    *(b'parameters { key: "execution_mode" value { string_value: "', b"sequence_batching { "),
)


TARGETS: Final = (
    Target(
        "load",
        _decode_load,
        _load_seeds(),
        (*JSON_WORDS, b'"config":', b'"file:', b"1/", b"../", b"/etc/", b"QUJD", b"=="),
        after_byte(in_json),
    ),
    Target(
        "load_message",
        _decode_load_message,
        _load_message_seeds(),
        (b"config", b"file:1/", b"../", b"\x0a", b"\x12", b"\x1a"),
        in_message(service_pb2.RepositoryModelLoadRequest),
    ),
    Target(
        "load_config",
        _decode_load_config,
        _load_config_seeds(),
        (*JSON_WORDS, b'"dims":', b'"max_batch_size":', b'"TYPE_', b'"value":'),
        in_json,
    ),
    Target("config", _decode_config, _config_seeds(), _CONFIG_WORDS, in_config),
)
