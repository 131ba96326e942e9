"""One tree of failures, each with its code, all of which can be copied whole."""

import copy
import pickle
from collections.abc import Iterator

import pytest

from serving.errors import Code, Internal, LoadFailed, Overloaded, ServingError


def tree(root: type[ServingError]) -> Iterator[type[ServingError]]:
    yield root
    for child in root.__subclasses__():
        yield from tree(child)


ERRORS = [error for error in tree(ServingError) if error.__module__ == ServingError.__module__]


def test_every_code_has_an_error_of_its_own() -> None:
    own = {error.code for error in ERRORS if error is not ServingError}
    assert own == set(Code)
    for code in Code:
        heads = [error for error in ServingError.__subclasses__() if error.code is code]
        assert len(heads) == 1 or all(issubclass(error, heads[0]) for error in heads)


@pytest.mark.parametrize("error", ERRORS)
def test_an_error_says_its_message(error: type[ServingError]) -> None:
    made = error("what was wrong")
    assert made.message == str(made) == "what was wrong"


@pytest.mark.parametrize("error", ERRORS)
def test_a_copy_is_whole(error: type[ServingError]) -> None:
    # Each request of a failed batch is given a copy of its own.
    made = error("what was wrong")
    for twin in (copy.copy(made), pickle.loads(pickle.dumps(made))):
        assert type(twin) is error
        assert twin is not made
        assert (twin.message, twin.code) == (made.message, made.code)


def test_a_copied_refusal_still_says_when_to_come_back() -> None:
    assert copy.copy(Overloaded("full", retry_after=2.5)).retry_after == 2.5


def test_a_failed_load_is_no_fault_of_the_server() -> None:
    assert not issubclass(LoadFailed, Internal)
    assert LoadFailed("x").code is Code.LOAD_FAILED
