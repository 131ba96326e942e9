"""Health, metadata, statistics, index and routes: everything that is no inference."""

from typing import Final

from tritonclient.grpc import service_pb2

from tests.conformance.calls import Call, Http, Rpc

# What a model and a version of it stand for.
THERE: Final = {
    "a model": ("simple", ""),
    "a version": ("all_versions", "2"),
    "the latest of several": ("latest_versions", ""),
    "a non-batching model": ("simple_alone", ""),
    "a model of scalars": ("scalar_rows", ""),
    "a model with variable dims": ("identity_fp16", ""),
    "a committed model": ("mnist-cnn", "1"),
    "a version with a leading zero": ("simple", "01"),
}
NOT_THERE: Final = {
    "an unknown model": ("nobody", ""),
    "an unknown version": ("simple", "9"),
    "a version that the policy leaves out": ("chosen_versions", "2"),
    "a model that failed to load": ("broken", ""),
    "a version that is no number": ("simple", "abc"),
    "a negative version": ("simple", "-1"),
    "version 0": ("simple", "0"),
    "a version of too many digits": ("simple", "9" * 30),
}
MODELS: Final = {**THERE, **NOT_THERE}
DOCUMENTS: Final = {
    "metadata": ("", "ModelMetadata"),
    "ready": ("/ready", "ModelReady"),
    "config": ("/config", "ModelConfig"),
    "statistics": ("/stats", "ModelStatistics"),
}
# What these hold is compared field by field elsewhere; here, how they are refused.
HELD_ELSEWHERE: Final = ("config", "statistics")
GET: Final = (
    "/v2/health/live",
    "/v2/health/ready",
)
UNKNOWN_ROUTES: Final = (
    "/v1",
    "/v2/",
    "/v2/health",
    "/v2/health/other",
    "/v2/health/live/",
    "/v2/models",
    "/v2/models/",
    "/v2/models/simple/",
    "/v2/models/simple/other",
    "/v2/models/simple/versions",
    "/v2/models/simple/versions/",
    "/v2/models/simple/versions/1/",
    "/v2/models/simple/versions/1/other",
    "/v2/models/simple/config/",
    "/v2/repository",
    "/V2",
    "/v2/models/a%2fb",
)
WRONG_METHODS: Final = (
    ("POST", "/v2"),
    ("DELETE", "/v2"),
    ("OPTIONS", "/v2"),
    ("POST", "/v2/health/live"),
    ("POST", "/v2/models/simple"),
    ("POST", "/v2/models/simple/ready"),
    ("POST", "/v2/models/simple/config"),
    ("POST", "/v2/models/simple/stats"),
    ("POST", "/v2/models/stats"),
    ("GET", "/v2/models/simple/infer"),
    ("PUT", "/v2/models/simple/infer"),
    ("PATCH", "/v2/models/simple/versions/1/infer"),
    ("GET", "/v2/repository/index"),
    ("GET", "/v2/repository/models/simple/load"),
    ("PUT", "/v2/repository/models/simple/unload"),
)
INDEX_BODIES: Final = {
    "nothing": b"",
    "an empty object": b"{}",
    "not only what is ready": b'{"ready": false}',
    "only what is ready": b'{"ready": true}',
    "ready that is no boolean": b'{"ready": 1}',
    "a list": b"[]",
    "null": b"null",
    "no JSON": b"nope",
}


def _path(model: str, version: str, suffix: str) -> str:
    return f"/v2/models/{model}{f'/versions/{version}' if version else ''}{suffix}"


def _of_models() -> dict[str, Call]:
    found: dict[str, Call] = {}
    for document, (suffix, method) in DOCUMENTS.items():
        for what, (model, version) in MODELS.items():
            if document in HELD_ELSEWHERE and what not in NOT_THERE:
                continue
            message = getattr(service_pb2, f"{method}Request")(name=model, version=version)
            found[f"{document} over REST: {what}"] = Http("GET", _path(model, version, suffix))
            found[f"{document} over gRPC: {what}"] = Rpc(method, message)
    return found


CASES: Final[dict[str, Call]] = {
    **{f"get {path}": Http("GET", path) for path in GET},
    "server metadata over REST": Http("GET", "/v2"),
    "server metadata over gRPC": Rpc("ServerMetadata", service_pb2.ServerMetadataRequest()),
    "live over gRPC": Rpc("ServerLive", service_pb2.ServerLiveRequest()),
    "ready over gRPC": Rpc("ServerReady", service_pb2.ServerReadyRequest()),
    "a query that nobody asked for": Http("GET", "/v2/models/simple?a=b"),
    "a name with an escaped letter": Http("GET", "/v2/models/sim%70le"),
    "a name that leads upwards": Http("GET", "/v2/models/%2e%2e"),
    **_of_models(),
    **{f"unknown route {path}": Http("GET", path) for path in UNKNOWN_ROUTES},
    "unknown route with POST": Http("POST", "/v2/models/simple/other", b"{}"),
    **{f"HEAD {path}": Http("HEAD", path) for path in ("/v2", "/v2/health/ready")},
    **{f"wrong method {how} {path}": Http(how, path) for how, path in WRONG_METHODS},
    **{
        f"index over REST: {what}": Http("POST", "/v2/repository/index", content)
        for what, content in INDEX_BODIES.items()
    },
    **{
        f"index over gRPC: {'ready' if ready else 'all'}": Rpc(
            "RepositoryIndex", service_pb2.RepositoryIndexRequest(ready=ready)
        )
        for ready in (False, True)
    },
    **{
        f"{verb} outside of explicit mode over REST": Http(
            "POST", f"/v2/repository/models/simple/{verb}", b"{}"
        )
        for verb in ("load", "unload")
    },
    "load outside of explicit mode over gRPC": Rpc(
        "RepositoryModelLoad", service_pb2.RepositoryModelLoadRequest(model_name="simple")
    ),
    "unload outside of explicit mode over gRPC": Rpc(
        "RepositoryModelUnload", service_pb2.RepositoryModelUnloadRequest(model_name="simple")
    ),
}
