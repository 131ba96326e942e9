"""What the OpenAPI page shows: requests that work as they stand on the repository we ship."""

from typing import Any, Final, TypeAlias

from fastapi.openapi.models import Example

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


def _json(example: Any, schema: dict[str, Any] | None = None) -> dict[str, Any]:
    return {"application/json": {"schema": schema or {"type": "object"}, "example": example}}


def _answer(text: str, example: Any) -> Responses:
    return {200: {"description": text, "content": _json(example)}, **_ERRORS}


_ERROR: Final = {
    "type": "object",
    "properties": {"error": {"type": "string"}},
    "required": ["error"],
}


def _failure(text: str, message: str) -> dict[str, Any]:
    return {"description": text, "content": _json({"error": message}, _ERROR)}


_ERRORS: Final[Responses] = {
    400: _failure(
        "The request does not fit the protocol or the model.",
        "unexpected inference input 'x' for model 'digits-mlp'; expected 'features'",
    ),
    404: _failure("No such model or version.", "Request for unknown model: 'digits' is not found"),
    # Beside it, FastAPI documents no status 422, which this server never answers.
    "default": _failure("Any other failure.", "internal error; see the server's log"),
}
_REFUSALS: Final[Responses] = {
    413: _failure(
        "The body is too large.", "the request body has 70000000 bytes; the server accepts at most"
    ),
    429: _failure(
        "The model's queue is full; Retry-After says when.", "Exceeds maximum queue size"
    ),
    503: _failure("The server is stopping.", "the server does not accept new requests"),
}

HEALTH: Final[Responses] = {
    200: {"description": "Yes."},
    400: {"description": "No."},
    "default": _ERRORS["default"],
}

SERVER_METADATA: Final = _answer(
    "Who answers.",
    {"name": "penstock", "version": "0.1.0", "extensions": ["binary_tensor_data", "statistics"]},
)

MODEL_METADATA: Final = _answer(
    "The signature.",
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
    {"name": TABULAR_MODEL, "platform": "onnxruntime_onnx", "max_batch_size": 64},
)

STATISTICS: Final = _answer(
    "Counters per model version.",
    {"model_stats": [{"name": TABULAR_MODEL, "version": "1", "inference_count": 1}]},
)

PASSPORT: Final = _answer(
    "What was proven of this version before it was published.",
    {"schema": "penstock.passport/1", "model": TABULAR_MODEL, "version": 1},
)

INDEX: Final = _answer(
    "Every model of the repositories.",
    [{"name": TABULAR_MODEL, "version": "1", "state": "READY"}],
)
INDEX_REQUEST: Final = {
    "requestBody": {"required": False, "content": _json({"ready": True})},
}

_MODEL_CONFIG: Final = (
    '{"backend": "onnxruntime", "version_policy": {"specific": {"versions": [1]}}}'
)
LOAD_REQUEST: Final = {
    "requestBody": {
        "required": False,
        "content": _json({"parameters": {"config": _MODEL_CONFIG}}),
    },
}
UNLOAD_REQUEST: Final = {
    "requestBody": {
        "required": False,
        "content": _json({"parameters": {"unload_dependents": False}}),
    },
}
CONTROLLED: Final[Responses] = {
    200: {"description": "Done."},
    **_ERRORS,
    503: _failure(
        "The models are not the clients' to change.",
        "explicit model load / unload is not allowed if polling is enabled",
    ),
}

INFER_REQUEST: Final = {
    "requestBody": {
        "required": True,
        "content": _json(_INFER)
        | {
            "application/octet-stream": {
                "schema": {"type": "string", "format": "binary"},
            }
        },
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
INFERRED: Final[Responses] = {
    **_answer(
        "The outputs.",
        {
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
        },
    ),
    **_REFUSALS,
}

GENERATE_REQUEST: Final = {
    "requestBody": {"required": True, "content": _json({"id": "1", "features": DIGIT})},
}
_GENERATED: Final = {
    "id": "1",
    "model_name": TABULAR_MODEL,
    "model_version": "1",
    "probabilities": [0.9991, 0, 0, 0, 0.0002, 0.0003, 0.0001, 0, 0.0002, 0.0001],
}
GENERATED: Final[Responses] = {**_answer("Each output by its name.", _GENERATED), **_REFUSALS}
GENERATED_STREAM: Final[Responses] = {
    **GENERATED,
    200: {
        "description": "One event for each response, or the error that ended them.",
        "content": {"text/event-stream": {"schema": {"type": "string"}}},
    },
}

_REGISTER: Final = {"key": "/penstock-inputs", "offset": 0, "byte_size": 256}
REGISTER_REQUEST: Final = {
    "requestBody": {"required": True, "content": _json(_REGISTER)},
}
SHARED_MEMORY: Final[Responses] = {
    200: {"description": "Done."},
    **_ERRORS,
    501: _failure("It is not allowed.", "this server does not offer shared memory"),
}
REGIONS: Final = _answer("What clients registered.", [{"name": "inputs", **_REGISTER}])

LOG_SETTINGS: Final = _answer(
    "The settings in force.",
    {
        "log_file": "",
        "log_info": True,
        "log_warning": True,
        "log_error": True,
        "log_verbose_level": 0,
        "log_format": "default",
    },
)
LOG_SETTINGS_REQUEST: Final = {
    "requestBody": {"required": True, "content": _json({"log_verbose_level": 0})},
}

TRACE_SETTINGS: Final = _answer(
    "The settings in force.",
    {
        "trace_level": ["OFF"],
        "trace_rate": "1000",
        "trace_count": "-1",
        "log_frequency": "0",
        "trace_file": "",
        "trace_mode": "triton",
    },
)
TRACE_SETTINGS_REQUEST: Final = {
    "requestBody": {"required": True, "content": _json({"trace_rate": "1000"})},
}

_FILE: Final = {"type": "string", "format": "binary"}
PREDICT: Final = {
    "requestBody": {
        "required": True,
        "content": _json(DIGIT, {"oneOf": [{"type": "array", "items": {}}, {"type": "object"}]})
        | {
            "multipart/form-data": {
                "schema": {"type": "object", "properties": {"file": _FILE}, "required": ["file"]}
            },
            "image/png": {"schema": _FILE},
            "image/jpeg": {"schema": _FILE},
            "image/webp": {"schema": _FILE},
        },
    }
}
PREDICTED: Final[Responses] = {
    **_answer(
        "The best classes of each example.",
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
    ),
    **_REFUSALS,
}
