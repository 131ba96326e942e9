"""Rows stay the first ones of the batch, whoever joins and leaves."""

import pytest

from serving.engine.generation.rows import Rows


def rows(members: str, limit: int = 4) -> Rows[str]:
    made: Rows[str] = Rows(limit)
    for member in members:
        made.join(member)
    return made


def test_the_last_row_moves_to_where_one_falls_free() -> None:
    made = rows("abcd")
    assert made.leave(1) == 3
    assert list(made) == ["a", "d", "c"]


def test_nobody_moves_where_the_last_leaves() -> None:
    made = rows("abc")
    assert made.leave(2) == 2
    assert list(made) == ["a", "b"]


def test_there_is_room_up_to_the_limit() -> None:
    made = rows("ab", limit=2)
    assert not made.has_room
    with pytest.raises(ValueError, match="all 2 rows are taken"):
        made.join("c")


def test_all_can_be_told_to_leave() -> None:
    made = rows("ab")
    assert made.clear() == ["a", "b"]
    assert len(made) == 0
