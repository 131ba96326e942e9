"""Another session takes the place of one in use: no run is lost, held up, or of a closed one."""

import threading
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import pytest

from serving.dtypes import Datatype
from serving.engine.backends.exchangeable import Exchangeable
from serving.types import Array, Signature, TensorSpec
from tests.serving.engine.models import FunctionSession, double

X = TensorSpec("x", Datatype.FP32, (-1,))
SIGNATURE = Signature((X,), (X,))
SECONDS = 30


class Held:
    """Doubles, once it is let go."""

    def __init__(self) -> None:
        self.began, self.go = threading.Event(), threading.Event()

    def __call__(self, x: Array) -> Array:
        self.began.set()
        assert self.go.wait(SECONDS)
        return double(x)


def run(session: Exchangeable) -> list[float]:
    [answer] = session.run({"x": np.ones(1, np.float32)}, ["y"])
    values: Sequence[float] = answer.tolist()
    return list(values)


def negative(x: Array) -> Array:
    return -x


def test_a_run_ends_where_it_began_and_those_after_it_do_not_wait() -> None:
    held = Held()
    before, after = FunctionSession(SIGNATURE, held), FunctionSession(SIGNATURE, negative)
    session = Exchangeable(before)
    with ThreadPoolExecutor(2) as pool:
        running = pool.submit(run, session)
        assert held.began.wait(SECONDS)
        exchanging: Future[object] = pool.submit(session.exchange, after)
        while run_of_the_other(session, after) != [-1]:
            pass
        assert not exchanging.done()
        held.go.set()
        assert running.result(SECONDS) == [2]
        assert exchanging.result(SECONDS) is before
    assert not before.closed


def run_of_the_other(session: Exchangeable, after: FunctionSession) -> list[float]:
    """An answer of `after`; nothing while it is not in place."""
    return run(session) if session._held.session is after else []


def test_what_comes_after_it_was_closed_has_to_be_closed_itself() -> None:
    before, after = (FunctionSession(SIGNATURE, double) for _ in range(2))
    session = Exchangeable(before)
    session.close()
    assert before.closed
    assert session.exchange(after) is after


def test_closed_it_closes_what_is_in_place() -> None:
    before, after = (FunctionSession(SIGNATURE, double) for _ in range(2))
    session = Exchangeable(before)
    assert session.exchange(after) is before
    session.close()
    assert (before.closed, after.closed) == (False, True)


def test_a_run_that_fails_holds_nothing_up() -> None:
    def fails(x: Array) -> Array:
        raise ValueError("no")

    before = FunctionSession(SIGNATURE, fails)
    session = Exchangeable(before)
    with pytest.raises(ValueError, match="no"):
        run(session)
    assert session.exchange(FunctionSession(SIGNATURE, double)) is before
    assert run(session) == [2]


def test_it_is_of_the_signature_of_what_it_runs_and_of_no_steady_pace() -> None:
    session = Exchangeable(FunctionSession(SIGNATURE, double))
    assert session.signature is SIGNATURE
    assert not session.steady
