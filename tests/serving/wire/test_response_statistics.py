"""Statistics of a decoupled model's responses, over both protocols."""

import json

from serving.statistics import VersionStatistics
from serving.wire import proto_documents, rest_documents

NOTHING = {"count": 0, "ns": 0}
NAMES = ("compute_infer", "compute_output", "success", "fail", "empty_response", "cancel")


def counted() -> VersionStatistics:
    version = VersionStatistics("m", "1")
    version.response(0).succeeded(3, 4)
    version.response(0).failed(5)
    version.response(1).empty(6)
    version.response(1).cancel.add(7)
    return version


FIRST = {
    "compute_infer": {"count": 2, "ns": 8},
    "compute_output": {"count": 1, "ns": 4},
    "success": {"count": 1, "ns": 7},
    "fail": {"count": 1, "ns": 5},
    "empty_response": NOTHING,
    "cancel": NOTHING,
}
SECOND = {
    **dict.fromkeys(NAMES, NOTHING),
    "compute_infer": {"count": 1, "ns": 6},
    "empty_response": {"count": 1, "ns": 6},
    "cancel": {"count": 1, "ns": 7},
}


def test_rest_tells_each_place_among_the_responses() -> None:
    [found] = json.loads(rest_documents.statistics([counted()]))["model_stats"]
    assert found["response_stats"] == {"0": FIRST, "1": SECOND}


def test_grpc_tells_the_same() -> None:
    [found] = proto_documents.statistics([counted()]).model_stats
    told = {
        place: {
            name: {"count": getattr(one, name).count, "ns": getattr(one, name).ns} for name in NAMES
        }
        for place, one in found.response_stats.items()
    }
    assert told == {"0": FIRST, "1": SECOND}


def test_a_model_that_is_not_decoupled_has_none() -> None:
    [found] = json.loads(rest_documents.statistics([VersionStatistics("m", "1")]))["model_stats"]
    assert found["response_stats"] == {}
