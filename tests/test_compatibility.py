"""docs/compatibility.md names tests that are there."""

import re
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parent.parent
DOCUMENT: Final = (ROOT / "docs" / "compatibility.md").read_text(encoding="utf-8")
NAMED: Final = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", DOCUMENT)


def test_it_names_some() -> None:
    assert len(NAMED) > 15


@pytest.mark.parametrize(("file", "name"), NAMED)
def test_a_test_that_holds_a_difference_is_there(file: str, name: str) -> None:
    source = (ROOT / file).read_text(encoding="utf-8")
    assert re.search(rf"^(async )?def {name}\(", source, re.MULTILINE)
