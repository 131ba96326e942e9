"""What the OpenAPI page shows: requests that work as they stand on the repository we ship.

Every status that a route can answer is there; the forms of the bodies are in `schemas`.
"""

from typing import Any, Final, TypeAlias

from fastapi.openapi.models import Example

from serving.errors import UNEXPECTED
from serving.gateway.schemas import ref

Responses: TypeAlias = dict[int | str, dict[str, Any]]

TABULAR_MODEL: Final = "digits-mlp"
# fmt: off
# The first image of scikit-learn's digits: a zero, 8 x 8 pixels of 0 to 16.
DIGIT: Final = [
    0, 0, 5, 13, 9, 1, 0, 0, 0, 0, 13, 15, 10, 15, 5, 0, 0, 3, 15, 2, 0, 11, 8, 0, 0, 4, 12, 0, 0,
    8, 8, 0, 0, 5, 8, 0, 0, 9, 8, 0, 0, 4, 11, 0, 1, 12, 7, 0, 0, 2, 14, 5, 10, 12, 0, 0, 0, 0, 6,
    13, 10, 0, 0, 0,
]
# fmt: on

# In this form the documentation page fills the field in.
MODEL: Final = {TABULAR_MODEL: Example(value=TABULAR_MODEL)}
VERSION: Final = {"1": Example(value="1")}
REGION: Final = {"inputs": Example(value="inputs")}

_INFER: Final = {
    "id": "1",
    "inputs": [{"name": "features", "shape": [1, 64], "datatype": "FP32", "data": DIGIT}],
    "outputs": [{"name": "probabilities"}],
}


def _json(schema: str, example: Any) -> dict[str, Any]:
    return {"application/json": {"schema": ref(schema), "example": example}}


def _failure(text: str, message: str) -> dict[str, Any]:
    return {"description": text, "content": _json("Error", {"error": message})}


_ANY: Final[Responses] = {
    400: _failure(
        "The request does not fit the protocol or the model.",
        "unexpected inference input 'x' for model 'digits-mlp'; expected 'features'",
    ),
    401: _failure("The server asks for an API key.", "no API key was sent"),
    403: _failure("The caller may not do this.", "this API is restricted"),
    500: _failure("The server or the model has failed.", UNEXPECTED),
    503: _failure(
        "The server, or the model, takes no requests now.",
        "Request for unknown model: 'digits-mlp' version 1 is not at ready state",
    ),
}
_NAMED: Final[Responses] = {
    **_ANY,
    404: _failure("No such model or version.", "Request for unknown model: 'digits' is not found"),
}
_BODY: Final[Responses] = {
    413: _failure(
        "The body is too large.", "the request body has 70000000 bytes; the server accepts at most"
    ),
    501: _failure(
        "The protocol knows it; this server does not offer it.",
        "Content-Encoding is 'br', expected one of: gzip, deflate",
    ),
}
_RUN: Final[Responses] = {
    **_NAMED,
    **_BODY,
    429: _failure(
        "The model's queue is full; Retry-After says when.", "Exceeds maximum queue size"
    ),
    504: _failure("Its time was up before there was an answer.", "Request timeout expired"),
}


def _answer(text: str, schema: str, example: Any, failures: Responses = _NAMED) -> Responses:
    return {200: {"description": text, "content": _json(schema, example)}, **failures}


def _request(schema: str, example: Any, is_required: bool = True) -> dict[str, Any]:
    return {"requestBody": {"required": is_required, "content": _json(schema, example)}}


_DONE: Final = {"description": "Done; the body is empty."}

LIVE: Final = _answer("Yes.", "Live", {"live": True}, _ANY)
READY: Final = _answer("Yes.", "Ready", {"ready": True}, {**_ANY, 400: {"description": "No."}})
MODEL_READY: Final = _answer(
    "Yes.",
    "ModelReady",
    {"name": TABULAR_MODEL, "ready": True},
    {**_ANY, 400: _failure("No, or not with such a version.", "Model version not ready")},
)

SERVER_METADATA: Final = _answer(
    "Who answers.",
    "Server",
    {"name": "penstock", "version": "0.1.0", "extensions": ["binary_tensor_data", "statistics"]},
)

MODEL_METADATA: Final = _answer(
    "The signature.",
    "Model",
    {
        "name": TABULAR_MODEL,
        "versions": ["1"],
        "platform": "onnxruntime_onnx",
        "inputs": [{"name": "features", "datatype": "FP32", "shape": [-1, 64]}],
        "outputs": [
            {"name": "logits", "datatype": "FP32", "shape": [-1, 10]},
            {"name": "probabilities", "datatype": "FP32", "shape": [-1, 10]},
        ],
    },
)

CONFIG: Final = _answer(
    "The complete configuration in force.",
    "ModelConfig",
    {
        "name": TABULAR_MODEL,
        "platform": "onnxruntime_onnx",
        "backend": "onnxruntime",
        "max_batch_size": 64,
        "input": [{"name": "features", "data_type": "TYPE_FP32", "dims": [64]}],
        "output": [{"name": "probabilities", "data_type": "TYPE_FP32", "dims": [10]}],
    },
)

_ONCE: Final = {"count": 1, "ns": 50_000}
_NEVER: Final = {"count": 0, "ns": 0}
_PHASES: Final = dict.fromkeys(("compute_input", "compute_infer", "compute_output"), _ONCE)
STATISTICS: Final = _answer(
    "Counters per model version.",
    "Statistics",
    {
        "model_stats": [
            {
                "name": TABULAR_MODEL,
                "version": "1",
                "last_inference": 1_700_000_000_000,
                "inference_count": 1,
                "execution_count": 1,
                "inference_stats": {
                    **dict.fromkeys(("success", "queue"), _ONCE),
                    **dict.fromkeys(("fail", "cache_hit", "cache_miss"), _NEVER),
                    **_PHASES,
                },
                "response_stats": {},
                "batch_stats": [{"batch_size": 1, **_PHASES}],
                "memory_usage": [],
            }
        ]
    },
)

PASSPORT: Final = _answer(
    "What was proven of this version before it was published.",
    "Passport",
    {"schema": "penstock.passport/1", "model": TABULAR_MODEL, "version": 1},
)

INDEX: Final = _answer(
    "Every model of the repositories.",
    "Index",
    [{"name": TABULAR_MODEL, "version": "1", "state": "READY"}],
    {**_NAMED, **_BODY},
)
INDEX_REQUEST: Final = _request("IndexRequest", {"ready": True}, is_required=False)

_MODEL_CONFIG: Final = (
    '{"backend": "onnxruntime", "version_policy": {"specific": {"versions": [1]}}}'
)
LOAD_REQUEST: Final = _request(
    "LoadRequest", {"parameters": {"config": _MODEL_CONFIG}}, is_required=False
)
UNLOAD_REQUEST: Final = _request(
    "UnloadRequest", {"parameters": {"unload_dependents": False}}, is_required=False
)
CONTROLLED: Final[Responses] = {
    200: _DONE,
    **_ANY,
    **_BODY,
    500: _failure("The model cannot be loaded; what serves goes on.", "failed to load 'digits'"),
    503: _failure(
        "The models are not the clients' to change.",
        "explicit model load / unload is not allowed if polling is enabled",
    ),
}

INFER_REQUEST: Final = {
    "requestBody": {
        "required": True,
        "content": _json("InferRequest", _INFER)
        | {"application/octet-stream": {"schema": ref("File")}},
    },
    "parameters": [
        {
            "name": "Inference-Header-Content-Length",
            "in": "header",
            "required": False,
            "description": "Where binary tensors follow the JSON: the length of the JSON in bytes.",
            "schema": {"type": "integer", "minimum": 0},
        }
    ],
}
_INFERRED: Final = {
    "id": "1",
    "model_name": TABULAR_MODEL,
    "model_version": "1",
    "outputs": [
        {
            "name": "probabilities",
            "datatype": "FP32",
            "shape": [1, 10],
            "data": [0.9991, 0, 0, 0, 0.0002, 0.0003, 0.0001, 0, 0.0002, 0.0001],
        }
    ],
}
INFERRED: Final[Responses] = {
    **_RUN,
    200: {
        "description": "The outputs; binary ones follow the JSON.",
        "content": _json("InferResponse", _INFERRED)
        | {"application/octet-stream": {"schema": ref("File")}},
    },
}

GENERATE_REQUEST: Final = _request("GenerateRequest", {"id": "1", "features": DIGIT})
_GENERATED: Final = {
    "id": "1",
    "model_name": TABULAR_MODEL,
    "model_version": "1",
    "probabilities": [0.9991, 0, 0, 0, 0.0002, 0.0003, 0.0001, 0, 0.0002, 0.0001],
}
GENERATED: Final = _answer("Each output by its name.", "GenerateResponse", _GENERATED, _RUN)
GENERATED_STREAM: Final[Responses] = {
    **GENERATED,
    200: {
        "description": "One event for each response, or the error that ended them.",
        "content": {"text/event-stream": {"schema": ref("Event")}},
    },
}

_REGISTER: Final = {"key": "/penstock-inputs", "offset": 0, "byte_size": 256}
REGISTER_REQUEST: Final = _request("Registration", _REGISTER)
SHARED_MEMORY: Final[Responses] = {200: _DONE, **_NAMED, **_BODY}
REGIONS: Final = _answer("What clients registered.", "Regions", [{"name": "inputs", **_REGISTER}])

LOG_SETTINGS: Final = _answer(
    "The settings in force.",
    "LogSettings",
    {
        "log_file": "",
        "log_info": True,
        "log_warning": True,
        "log_error": True,
        "log_verbose_level": 0,
        "log_format": "default",
    },
    {**_NAMED, **_BODY},
)
LOG_SETTINGS_REQUEST: Final = _request("LogChanges", {"log_verbose_level": 0})

TRACE_SETTINGS: Final = _answer(
    "The settings in force.",
    "TraceSettings",
    {
        "trace_level": ["OFF"],
        "trace_rate": "1000",
        "trace_count": "-1",
        "log_frequency": "0",
        "trace_file": "",
        "trace_mode": "triton",
    },
    {**_NAMED, **_BODY},
)
TRACE_SETTINGS_REQUEST: Final = _request("TraceChanges", {"trace_rate": "1000"})

PREDICT: Final = {
    "requestBody": {
        "required": True,
        "content": _json("PredictRequest", DIGIT)
        | {
            "multipart/form-data": {"schema": ref("PredictForm")},
            **{f"image/{kind}": {"schema": ref("File")} for kind in ("png", "jpeg", "webp")},
        },
    }
}
PREDICTED: Final = _answer(
    "The best classes of each example.",
    "Prediction",
    {
        "model": TABULAR_MODEL,
        "version": "1",
        "predictions": [
            {
                "label": "0",
                "probability": 0.9991,
                "classes": [
                    {"label": "0", "probability": 0.9991},
                    {"label": "5", "probability": 0.0003},
                ],
            }
        ],
    },
    _RUN,
)
