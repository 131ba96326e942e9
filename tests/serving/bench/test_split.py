"""What a server's statistics grew by; what says nothing of it stops no report."""

from typing import Any

import pytest

from serving.bench.split import split


def document(count: Any) -> dict[str, Any]:
    counted = {"success": {"count": count, "ns": "9000"}, "queue": {"count": count, "ns": "6000"}}
    return {"model_stats": [{"inference_count": count, "inference_stats": counted}]}


def test_texts_are_numbers_over_grpc() -> None:
    found = split({"model_stats": []}, document("3"))
    assert found is not None
    assert (found.requests, found.rows, found.queue) == (3, 3, 2e-6)


@pytest.mark.parametrize(
    "strange",
    [
        {},
        {"model_stats": []},
        {"model_stats": None},
        {"model_stats": ["m"]},
        document("many"),
        document(None),
    ],
)
def test_statistics_of_another_form_are_none(strange: dict[str, Any]) -> None:
    assert split(strange, strange) is None
    assert split(document(1), strange) is None
