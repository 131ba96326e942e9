"""What is shown of a text as it comes, and where a stop string ends it."""

import pytest

from serving.engine.generation.text import Text


def shown(text: str, *stops: str) -> list[str]:
    """What each character of `text` lets be seen, and the end."""
    writing = Text(stops)
    return [*(writing.add(character) for character in text), writing.finish()]


def test_all_of_it_is_shown_at_once_without_stop_strings() -> None:
    assert shown("to be") == [*"to be", ""]


def test_what_may_begin_a_stop_string_is_held_back_until_it_does_not() -> None:
    assert shown("abx", "abc") == ["", "", "abx", ""]


def test_what_was_held_back_is_shown_at_the_end() -> None:
    assert shown("xab", "abc") == ["x", "", "", "ab"]


@pytest.mark.parametrize(
    ("text", "stops", "expected"),
    [
        ("one\n\ntwo", ("\n\n",), "one"),
        ("aab", ("ab",), "a"),
        ("ababac", ("abac",), "ab"),
        ("abcd", ("bcd", "c"), "ab"),
        ("abcd", ("cd", "abcdef"), "ab"),
        ("stop", ("s",), ""),
        ("never", ("ever!",), "never"),
    ],
)
def test_a_text_ends_before_the_first_stop_string_that_is_whole(
    text: str, stops: tuple[str, ...], expected: str
) -> None:
    assert "".join(shown(text, *stops)) == expected


def test_a_piece_may_hold_a_stop_string_and_more() -> None:
    writing = Text(["--"])
    assert writing.add("to be--or not") == "to be"
    assert writing.stopped
    assert writing.add("to be") == ""
