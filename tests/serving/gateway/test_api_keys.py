"""What a file of API keys may say, and what is said of one that is wrong, which is never a key."""

import hashlib

import pytest

from serving.errors import ServingError
from serving.gateway.api_keys import RIGHTS, Grant, digest, parse
from serving.restrictions import Group

KEY = "0123456789abcdef"
SECOND = "fedcba9876543210"
FILE = "/etc/keys"


def test_a_key_is_plain_or_a_digest() -> None:
    hashed = hashlib.sha256(SECOND.encode()).hexdigest()
    for text in (hashed, hashed.upper()):
        keys = parse(f"a {KEY}\nb sha256:{text}\n".encode(), FILE)
        assert keys[digest(KEY.encode())].name == "a"
        assert keys[digest(SECOND.encode())].name == "b"


@pytest.mark.parametrize(
    ("rights", "groups"),
    [
        ("", RIGHTS["infer"]),
        ("infer", RIGHTS["infer"]),
        ("admin", frozenset(Group)),
        ("trace,logging", {Group.TRACE, Group.LOGGING}),
        ("infer,shared-memory", RIGHTS["infer"] | {Group.SHARED_MEMORY}),
    ],
)
def test_rights_are_groups_or_a_word_for_several(rights: str, groups: frozenset[Group]) -> None:
    assert parse(f"a {KEY} {rights}".encode(), FILE) == {digest(KEY.encode()): Grant("a", groups)}


def test_who_may_infer_may_change_nothing() -> None:
    changing = {Group.MODEL_REPOSITORY, Group.SHARED_MEMORY, Group.TRACE, Group.LOGGING}
    assert RIGHTS["infer"].isdisjoint(changing)


def test_comments_blank_lines_and_any_blanks_between_are_fine() -> None:
    text = f"# keys\n\n  a\t{KEY}   infer # of the frontend\r\na {SECOND}#\n"
    assert [grant.name for grant in parse(text.encode(), FILE).values()] == ["a", "a"]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", f"{FILE}: there is no key in it"),
        ("# none\n", f"{FILE}: there is no key in it"),
        (f"a {KEY}\n{SECOND}", f"{FILE}:2: expected NAME KEY [RIGHTS], got 1 words"),
        (f"a {KEY} infer {SECOND}", f"{FILE}:1: expected NAME KEY [RIGHTS], got 4 words"),
        (f"a {KEY}\nb {KEY}", f"{FILE}:2: this key is on a line above already"),
        (f"{KEY} alice", f"{FILE}:1: a key wants at least 16 characters"),
        ("a schlüssel-schlüssel", f"{FILE}:1: a key wants at least 16 characters of ASCII"),
        (f"a sha256:{KEY}", f"{FILE}:1: sha256: wants 64 hexadecimal digits"),
        (f"a {KEY} infer,load", f"{FILE}:1: rights are, with commas between: infer, admin"),
        (f"a {SECOND} {KEY}", f"{FILE}:1: rights are, with commas between: infer, admin"),
    ],
)
def test_what_is_wrong_is_told_by_its_line_and_shows_no_key(text: str, complaint: str) -> None:
    with pytest.raises(ServingError) as error:
        parse(text.encode(), FILE)
    assert error.value.message.startswith(complaint)
    assert KEY not in error.value.message
    assert SECOND not in error.value.message


def test_what_is_no_text_is_refused() -> None:
    with pytest.raises(ServingError, match="not UTF-8 at byte 2"):
        parse(b"a \xff", FILE)
