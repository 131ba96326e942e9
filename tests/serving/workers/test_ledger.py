"""What is written down is whole for whoever reads it, also when its writer is killed."""

import os
from collections.abc import Iterator

import pytest

from serving.workers.ledger import Ledger


@pytest.fixture
def ledger() -> Iterator[Ledger]:
    made = Ledger("what was counted")
    yield made
    made.close()


def test_nothing_is_read_before_anything_was_written(ledger: Ledger) -> None:
    assert ledger.read() is None


@pytest.mark.parametrize("contents", [(b"one",), (b"one", b"", b"a longer one", b"short")])
def test_what_was_written_last_is_read(ledger: Ledger, contents: tuple[bytes, ...]) -> None:
    for content in contents:
        ledger.write(content)
    assert ledger.read() == contents[-1]


def test_a_writer_that_is_killed_in_its_midst_leaves_what_was_there(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> int:
        raise SystemExit

    ledger.write(b"before")
    monkeypatch.setattr(os, "pwrite", killed)
    with pytest.raises(SystemExit):
        ledger.write(b"after, with all of the new there but for the word that it is the newest")
    assert ledger.read() == b"before"
