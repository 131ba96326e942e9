"""The extensions beside unary inference: generate, streams, shared memory."""

import json
from typing import Any, Final

from tritonclient.grpc import service_pb2

from tests.conformance.calls import Call, Http, Rpc, Stream
from tests.conformance.cases_inference import ONES, ROW, SIXTEEN
from tests.conformance.tensors import Infer, Input, as_raw_contents

SHM: Final = "/v2/systemsharedmemory"
CUDA: Final = "/v2/cudasharedmemory"


def _generate(document: Any, model: str = "simple", route: str = "generate") -> Http:
    content = document if isinstance(document, bytes) else json.dumps(document).encode()
    return Http("POST", f"/v2/models/{model}/{route}", content)


_BOTH: Final = {"INPUT0": SIXTEEN, "INPUT1": ONES}

GENERATE: Final[dict[str, Call]] = {
    "two inputs of a batching model": _generate(_BOTH),
    "an id and parameters": _generate(_BOTH | {"id": "7", "parameters": {"a": 1}, "b": "c"}),
    "a number for an input": _generate({"IN": 1.5}, "labelled"),
    "a text": _generate({"IN": "snow ☃"}, "text_rows"),
    "texts": _generate({"IN": ["a"]}, "text_rows"),
    "a model of versions": Http(
        "POST", "/v2/models/all_versions/versions/2/generate", b'{"IN":[1.0,2.0]}'
    ),
    "an optional input that is left out": _generate({"IN": [1.0]}, "optional"),
    "a missing input": _generate({"INPUT0": SIXTEEN}),
    "a nested list": _generate({"INPUT0": [SIXTEEN], "INPUT1": [ONES]}),
    "texts for numbers": _generate({"INPUT0": ["a"] * 16, "INPUT1": ONES}),
    "an object for an input": _generate({"INPUT0": {}, "INPUT1": ONES}),
    "null for an input": _generate({"INPUT0": None, "INPUT1": ONES}),
    "fewer elements": _generate({"INPUT0": [1], "INPUT1": ONES}),
    "no JSON": _generate(b"nope"),
    "a list": _generate(b"[]"),
    "nothing at all": _generate(b""),
    "an unknown model": _generate(_BOTH, "nobody"),
    "a model that fails to run": _generate({"IN": 7}, "failing"),
    "GET": Http("GET", "/v2/models/simple/generate"),
}


def _request(**changes: Any) -> Any:
    given = {"model": "simple", "inputs": ROW} | changes
    return as_raw_contents(Infer(**given)).message


_STATUS: Final = (("triton_grpc_error", "true"),)
_END: Final = {"triton_enable_empty_final_response": True}

_FAILING: Final = _request(model="failing", inputs=[Input("IN", "INT64", [1], [7])])

STREAMS: Final[dict[str, Call]] = {
    "nothing": Stream([]),
    "one request": Stream([_request(id="1")]),
    "two requests": Stream([_request(id="1"), _request(id="2")]),
    "an unknown model": Stream([_request(model="nobody", id="1")]),
    "a fault between two requests": Stream(
        [_request(id="1"), _request(id="2", inputs=ROW[:1]), _request(id="3")]
    ),
    "a fault without an id": Stream([_request(inputs=ROW[:1])]),
    "a fault as a status": Stream([_request(id="1", inputs=ROW[:1])], _STATUS),
    "an unknown model as a status": Stream([_request(model="nobody")], _STATUS),
    "a request after a status": Stream([_request(id="1")], _STATUS),
    "the end asked for": Stream([_request(id="1", parameters=_END)]),
    "a model that fails to run": Stream([_FAILING]),
    "a model that fails to run as a status": Stream([_FAILING], _STATUS),
}


def _register(**members: Any) -> Http:
    return Http("POST", f"{SHM}/region/made_up/register", json.dumps(members).encode())


_REGISTER: Final = service_pb2.SystemSharedMemoryRegisterRequest(
    name="made_up", key="/penstock_no_such_key", byte_size=64
)

SHARED_MEMORY: Final[dict[str, Call]] = {
    "status": Http("GET", f"{SHM}/status"),
    "status of an unknown region": Http("GET", f"{SHM}/region/nowhere/status"),
    "unregister all": Http("POST", f"{SHM}/unregister"),
    "unregister an unknown region": Http("POST", f"{SHM}/region/nowhere/unregister"),
    "register an unknown key": _register(key="/penstock_no_such_key", offset=0, byte_size=64),
    "register without a key": _register(byte_size=64),
    "register without a size": _register(key="/penstock_no_such_key"),
    "register what is no JSON": Http("POST", f"{SHM}/region/made_up/register", b"nope"),
    "register by GET": Http("GET", f"{SHM}/region/made_up/register"),
    "CUDA status": Http("GET", f"{CUDA}/status"),
    "CUDA unregister all": Http("POST", f"{CUDA}/unregister"),
    "CUDA register": Http(
        "POST",
        f"{CUDA}/region/made_up/register",
        b'{"raw_handle":{"b64":"AAAA"},"device_id":0,"byte_size":64}',
    ),
    "status over gRPC": Rpc(
        "SystemSharedMemoryStatus", service_pb2.SystemSharedMemoryStatusRequest()
    ),
    "status of an unknown region over gRPC": Rpc(
        "SystemSharedMemoryStatus", service_pb2.SystemSharedMemoryStatusRequest(name="nowhere")
    ),
    "register an unknown key over gRPC": Rpc("SystemSharedMemoryRegister", _REGISTER),
    "unregister an unknown region over gRPC": Rpc(
        "SystemSharedMemoryUnregister",
        service_pb2.SystemSharedMemoryUnregisterRequest(name="nowhere"),
    ),
    "CUDA status over gRPC": Rpc(
        "CudaSharedMemoryStatus", service_pb2.CudaSharedMemoryStatusRequest()
    ),
    "CUDA register over gRPC": Rpc(
        "CudaSharedMemoryRegister",
        service_pb2.CudaSharedMemoryRegisterRequest(name="made_up", raw_handle=b"1", byte_size=64),
    ),
}


def _logging(**settings: Any) -> Http:
    return Http("POST", "/v2/logging", json.dumps(settings).encode())


def _log_settings(**settings: Any) -> Rpc:
    message = service_pb2.LogSettingsRequest()
    for name, value in settings.items():
        kind = {bool: "bool_param", int: "uint32_param", str: "string_param"}[type(value)]
        setattr(message.settings[name], kind, value)
    return Rpc("LogSettings", message)


LOGGING: Final[dict[str, Call]] = {
    "settings": Http("GET", "/v2/logging"),
    "nothing": _logging(),
    "what is set already": _logging(log_info=True, log_verbose_level=0),
    "an unknown setting": _logging(log_everything=True),
    "a text for a boolean": _logging(log_info="yes"),
    "a number for a boolean": _logging(log_info=1),
    "a text for the level": _logging(log_verbose_level="1"),
    "a negative level": _logging(log_verbose_level=-1),
    "an unknown format": _logging(log_format="poem"),
    "no JSON": Http("POST", "/v2/logging", b"nope"),
    "a list": Http("POST", "/v2/logging", b"[]"),
    "PUT": Http("PUT", "/v2/logging", b"{}"),
    "settings over gRPC": _log_settings(),
    "an unknown setting over gRPC": _log_settings(log_everything=True),
    "a text for a boolean over gRPC": _log_settings(log_info="yes"),
    "an unknown format over gRPC": _log_settings(log_format="poem"),
}


def _trace(path: str = "", **settings: Any) -> Http:
    return Http("POST", f"/v2{path}/trace/setting", json.dumps(settings).encode())


def _trace_setting(model: str = "", **settings: Any) -> Rpc:
    message = service_pb2.TraceSettingRequest(model_name=model)
    for name, values in settings.items():
        message.settings[name].value.extend(values)
    return Rpc("TraceSetting", message)


TRACING: Final[dict[str, Call]] = {
    "settings": Http("GET", "/v2/trace/setting"),
    "settings of a model": Http("GET", "/v2/models/simple/trace/setting"),
    "settings of an unknown model": Http("GET", "/v2/models/nobody/trace/setting"),
    "nothing": _trace(),
    "an unknown setting": _trace(trace_everything="1"),
    "an unknown level": _trace(trace_level=["LOUD"]),
    "a rate that is a text": _trace(trace_rate="often"),
    "a count that is a text": _trace(trace_count="all"),
    "a level that is a number": _trace(trace_level=5),
    "no JSON": Http("POST", "/v2/trace/setting", b"nope"),
    "settings over gRPC": _trace_setting(),
    "settings of a model over gRPC": _trace_setting("simple"),
    "settings of an unknown model over gRPC": _trace_setting("nobody"),
    "an unknown setting over gRPC": _trace_setting(trace_everything=["1"]),
    "an unknown level over gRPC": _trace_setting(trace_level=["LOUD"]),
    "a rate that is a text over gRPC": _trace_setting(trace_rate=["often"]),
}

CASES: Final[dict[str, Call]] = {
    **{f"logging: {name}": call for name, call in LOGGING.items()},
    **{f"tracing: {name}": call for name, call in TRACING.items()},
    **{f"generate: {name}": call for name, call in GENERATE.items()},
    "generate_stream: two inputs of a batching model": _generate(_BOTH, route="generate_stream"),
    "generate_stream: a missing input": _generate({"INPUT0": [1]}, route="generate_stream"),
    **{f"stream: {name}": call for name, call in STREAMS.items()},
    **{f"shared memory: {name}": call for name, call in SHARED_MEMORY.items()},
}
