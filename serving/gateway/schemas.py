"""The forms of what REST takes and gives, as JSON schemas; `COMPONENTS` has them by their names."""

from typing import Any, Final, TypeAlias

from serving.dtypes import Datatype
from serving.types import ModelState

Schema: TypeAlias = dict[str, Any]

_TEXT: Final[Schema] = {"type": "string"}
_FLAG: Final[Schema] = {"type": "boolean"}
_COUNT: Final[Schema] = {"type": "integer", "minimum": 0}
_ANY_OBJECT: Final[Schema] = {"type": "object"}
_PARAMETERS: Final[Schema] = {
    "type": "object",
    "description": "Those of the protocol and its extensions; others are passed on.",
}
_SHAPE: Final[Schema] = {"type": "array", "items": _COUNT, "maxItems": 32}
_DATATYPE: Final[Schema] = {"type": "string", "enum": [datatype.wire for datatype in Datatype]}
_DATA: Final[Schema] = {"type": "array", "items": {}, "description": "Row-major; may be nested."}
_FILE: Final[Schema] = {"type": "string", "format": "binary"}


def ref(name: str) -> Schema:
    """The schema of that name in `COMPONENTS`."""
    return {"$ref": f"#/components/schemas/{name}"}


def listed(schema: Schema) -> Schema:
    """A list of what `schema` describes."""
    return {"type": "array", "items": schema}


def _members(
    required: dict[str, Schema], optional: dict[str, Schema] | None = None, **more: Any
) -> Schema:
    return {
        "type": "object",
        "properties": required | (optional or {}),
        "required": [*required],
        **more,
    }


_DURATION: Final = _members({"count": _COUNT, "ns": _COUNT}, additionalProperties=False)
_PHASES: Final = {
    name: ref("Duration") for name in ("compute_input", "compute_infer", "compute_output")
}

COMPONENTS: Final[dict[str, Schema]] = {
    "Error": _members({"error": _TEXT}, additionalProperties=False),
    "Live": _members({"live": _FLAG}, additionalProperties=False),
    "Ready": _members({"ready": _FLAG}, additionalProperties=False),
    "ModelReady": _members({"name": _TEXT, "ready": _FLAG}, additionalProperties=False),
    "Server": _members({"name": _TEXT, "version": _TEXT, "extensions": listed(_TEXT)}),
    "Tensor": _members(
        {
            "name": _TEXT,
            "datatype": _DATATYPE,
            "shape": listed({"type": "integer", "minimum": -1}),
        }
    ),
    "Model": _members(
        {
            "name": _TEXT,
            "versions": listed(_TEXT),
            "platform": _TEXT,
            "inputs": listed(ref("Tensor")),
            "outputs": listed(ref("Tensor")),
        }
    ),
    "ModelConfig": _members(
        {
            "name": _TEXT,
            "platform": _TEXT,
            "backend": _TEXT,
            "max_batch_size": _COUNT,
            "input": listed(_ANY_OBJECT),
            "output": listed(_ANY_OBJECT),
        }
    ),
    "Duration": _DURATION,
    "Statistics": _members(
        {
            "model_stats": listed(
                _members(
                    {
                        "name": _TEXT,
                        "version": _TEXT,
                        "last_inference": _COUNT,
                        "inference_count": _COUNT,
                        "execution_count": _COUNT,
                        "inference_stats": _members(
                            {
                                **{name: ref("Duration") for name in ("success", "fail", "queue")},
                                **_PHASES,
                                "cache_hit": ref("Duration"),
                                "cache_miss": ref("Duration"),
                            }
                        ),
                        "response_stats": {
                            "type": "object",
                            "additionalProperties": {
                                "type": "object",
                                "additionalProperties": ref("Duration"),
                            },
                        },
                        "batch_stats": listed(_members({"batch_size": _COUNT, **_PHASES})),
                        "memory_usage": listed(_ANY_OBJECT),
                    }
                )
            )
        }
    ),
    "Passport": _members({"schema": _TEXT}),
    "IndexRequest": _members({}, {"ready": _FLAG}),
    "Index": listed(
        _members(
            {"name": _TEXT},
            {
                "version": _TEXT,
                "state": {"type": "string", "enum": [state.value for state in ModelState]},
                "reason": _TEXT,
            },
            additionalProperties=False,
        )
    ),
    "LoadRequest": _members(
        {},
        {
            "parameters": {
                "type": "object",
                "properties": {
                    "config": {"type": "string", "contentMediaType": "application/json"}
                },
                "additionalProperties": {"type": "string", "contentEncoding": "base64"},
            }
        },
    ),
    "UnloadRequest": _members(
        {}, {"parameters": {"type": "object", "properties": {"unload_dependents": _FLAG}}}
    ),
    "InferRequest": _members(
        {
            "inputs": listed(
                _members(
                    {"name": _TEXT, "shape": _SHAPE, "datatype": _DATATYPE},
                    {"parameters": _PARAMETERS, "data": _DATA},
                )
            )
        },
        {
            "id": _TEXT,
            "parameters": _PARAMETERS,
            "outputs": listed(_members({"name": _TEXT}, {"parameters": _PARAMETERS})),
        },
    ),
    "InferResponse": _members(
        {
            "model_name": _TEXT,
            "model_version": _TEXT,
            "outputs": listed(
                _members(
                    {"name": _TEXT, "datatype": _DATATYPE, "shape": _SHAPE},
                    {"parameters": _PARAMETERS, "data": _DATA},
                )
            ),
        },
        {"id": _TEXT, "parameters": _PARAMETERS},
        additionalProperties=False,
    ),
    "GenerateRequest": {
        "type": "object",
        "description": "Inputs by their names; other members are parameters.",
    },
    "GenerateResponse": _members({"model_name": _TEXT, "model_version": _TEXT}),
    "Event": {**_members({"data": _TEXT}), "description": "The response, or an error, as JSON."},
    "Registration": _members({"key": _TEXT, "byte_size": _COUNT}, {"offset": _COUNT}),
    "Regions": listed(
        _members(
            {"name": _TEXT, "key": _TEXT, "offset": _COUNT, "byte_size": _COUNT},
            additionalProperties=False,
        )
    ),
    "LogSettings": _members(
        {
            "log_file": _TEXT,
            "log_info": _FLAG,
            "log_warning": _FLAG,
            "log_error": _FLAG,
            "log_verbose_level": _COUNT,
            "log_format": {"type": "string", "enum": ["default", "ISO8601", "json"]},
        },
        additionalProperties=False,
    ),
    "TraceSettings": {
        "type": "object",
        "properties": {"trace_level": listed(_TEXT)},
        "required": ["trace_level", "trace_rate", "trace_count", "trace_mode"],
        "additionalProperties": _TEXT,
    },
    "TraceChanges": {
        "type": "object",
        "additionalProperties": {"type": ["string", "array", "null"], "items": _TEXT},
    },
    "PredictRequest": {
        "oneOf": [
            _DATA,
            {"type": "object", "properties": {"inputs": {}}, "required": ["inputs"]},
            _members(
                {"text": {"type": ["string", "array"], "items": _TEXT}},
                additionalProperties=False,
            ),
            {
                "type": "object",
                "properties": {"seed": {"type": "integer"}, "pictures": {"type": "integer"}},
                "additionalProperties": False,
            },
        ],
        "description": "One example or a list of them, bare or under the key inputs; or texts; or "
        "a seed and a number of pictures to be made of it.",
    },
    "PredictForm": _members({"file": _FILE}),
    "Prediction": _members(
        {"model": _TEXT, "version": _TEXT},
        {
            "predictions": listed(
                {
                    "anyOf": [
                        _members(
                            {
                                "label": _TEXT,
                                "probability": {"type": "number"},
                                "classes": listed(
                                    _members({"label": _TEXT, "probability": {"type": "number"}})
                                ),
                            }
                        ),
                        _members({"translation": _TEXT}, {"score": {"type": "number"}}),
                    ]
                }
            ),
            "outputs": {
                "type": "object",
                "additionalProperties": _members({"shape": _SHAPE, "data": _DATA}),
            },
        },
        additionalProperties=False,
    ),
    "File": _FILE,
}
# Of the log's settings, a client may change all but the file.
COMPONENTS["LogChanges"] = {
    "type": "object",
    "properties": {
        name: schema
        for name, schema in COMPONENTS["LogSettings"]["properties"].items()
        if name != "log_file"
    },
    "additionalProperties": False,
}
