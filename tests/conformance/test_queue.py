"""A full queue and a request that waits too long: the same refusals, each under its status."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from tests.conformance.calls import Answer, Connection
from tests.conformance.compare import differing
from tests.conformance.conftest import Pair
from tests.conformance.tensors import ENCODINGS, Infer, Input

# Multiplications of a matrix: a few tens of milliseconds, and much more than a request takes.
LONG = 300
# Requests at once, of which one runs and two may wait; Triton prepares one more.
CROWD = 12
# Long requests that may end before the one behind them is there.
ATTEMPTS = 5


def _ask(server: Connection, encoding: str, products: int = LONG, **parameters: Any) -> Answer:
    tensor = Input("IN", "INT64", [1, 1], [products])
    return ENCODINGS[encoding](Infer("slow", [tensor], parameters=parameters)).send(server)


def _crowd(server: Connection, encoding: str) -> Sequence[Answer]:
    with ThreadPoolExecutor(CROWD) as pool:
        return list(pool.map(lambda _: _ask(server, encoding), range(CROWD)))


def _first(answers: Sequence[Answer]) -> Answer:
    """What those are told that are refused, all alike."""
    refused = [answer for answer in answers if answer.message]
    assert 0 < len(refused) < len(answers)
    assert {(one.status, one.message) for one in refused} == {
        (refused[0].status, refused[0].message)
    }
    return refused[0]


def test_a_full_queue_refuses_in_tritons_words(pair: Pair) -> None:
    for encoding in ("json", "grpc raw"):
        theirs, ours = (_first(_crowd(one, encoding)) for one in (pair.triton, pair.ours))
        assert "Exceeds maximum queue size" in theirs.message
        # A client can tell a full queue from a server that is gone, unless it knows Triton's codes.
        assert differing(ours, theirs) == (set() if pair.like_triton else {"status"})


def _late(server: Connection, encoding: str) -> Answer:
    """What a request is told that may wait for a microsecond only, behind two long ones."""
    with ThreadPoolExecutor(2) as pool:
        for _ in range(ATTEMPTS):
            long = [pool.submit(_ask, server, encoding) for _ in range(2)]
            while not all(one.done() for one in long):
                answer = _ask(server, encoding, 1, timeout=1)
                if "timeout" in answer.message:
                    return answer
    raise AssertionError("no request has waited for too long")


def test_a_request_that_waits_too_long_is_refused_in_tritons_words(pair: Pair) -> None:
    for encoding in ("json", "grpc raw"):
        theirs, ours = (_late(one, encoding) for one in (pair.triton, pair.ours))
        assert "Request timeout expired" in theirs.message
        # 504 and DEADLINE_EXCEEDED, since it is the time that was not enough.
        assert differing(ours, theirs) == (set() if pair.like_triton else {"status"})
