"""What a child says of its failure reaches its parent, however long it is."""

import pytest

from serving.supervision.children import Report, Reports


@pytest.mark.parametrize("character", ["a", "模", "\0", "\udc80"])
def test_a_text_of_any_length_and_characters_is_cut_to_what_can_be_sent(character: str) -> None:
    reports = Reports()
    try:
        reports.send(Report("engine", "failed", 100_000 * character))
        [report] = reports.received()
        assert report.event == "failed"
        assert set(report.text) == {character}
        assert len(report.text) >= 30_000
    finally:
        reports.close()
