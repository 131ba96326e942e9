"""Both servers answer every case alike, but for the differences that are listed."""

import re
from pathlib import Path
from typing import Final

import pytest

from tests.conformance.calls import Call, Connection
from tests.conformance.cases import CASES
from tests.conformance.compare import WORDING, differing
from tests.conformance.conftest import Pair
from tests.conformance.differences import as_table, expected, unmatched

DOCUMENT: Final = Path(__file__).parents[2] / "docs" / "compatibility.md"


@pytest.mark.parametrize("name", CASES)
def test_the_answers_are_alike_but_for_what_is_listed(pair: Pair, name: str) -> None:
    theirs = pair.theirs(CASES[name])
    ours = CASES[name].send(pair.ours)

    found = differing(ours, theirs)

    assert found == expected(name, pair.like_triton), f"Triton: {theirs}\nPenstock: {ours}"


def test_every_listed_difference_is_that_of_a_case() -> None:
    assert unmatched(CASES) == []


def test_the_document_shows_every_listed_difference() -> None:
    assert DOCUMENT.read_text(encoding="utf-8").endswith(f"\n{as_table()}")


def test_the_document_names_tests_that_are_there() -> None:
    named = set(re.findall(r"`((?:tests|bench)/[\w/]+(?:\.py|/))`", DOCUMENT.read_text("utf-8")))
    named |= {
        f"tests/conformance/{name}.py"
        for name in re.findall(r"`((?:cases|test)_\w+)`", DOCUMENT.read_text("utf-8"))
    }
    assert named
    assert [name for name in sorted(named) if not (DOCUMENT.parents[1] / name).exists()] == []


@pytest.mark.parametrize(("pattern", "name"), [item for item in WORDING.items() if item[1]])
def test_the_words_that_clients_match_are_tritons(
    triton: Connection, pattern: str, name: str
) -> None:
    call: Call = CASES[name]
    assert re.match(pattern, call.send(triton).message)
