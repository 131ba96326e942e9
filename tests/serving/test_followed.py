"""What comes from files is renewed with them, and never made worse by them."""

import logging

import pytest

from serving.errors import ServingError
from serving.followed import Followed


class Source:
    """A file, as it were; None is one that is not there."""

    def __init__(self, content: str | None) -> None:
        self.content = content
        self.parsed = 0

    def read(self) -> str:
        if self.content is None:
            raise ServingError("cannot read it")
        return self.content

    def parse(self, content: str) -> int:
        self.parsed += 1
        if content == "secret":
            raise ValueError(content)
        if not content.isdecimal():
            raise ServingError(f"no number: {content}")
        return int(content)

    def followed(self) -> Followed[str, int]:
        return Followed("numbers", self.read, self.parse)


@pytest.fixture(autouse=True)
def _told(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "penstock.security")


def test_a_start_fails_with_what_is_wrong() -> None:
    for content in (None, "x"):
        with pytest.raises(ServingError):
            Source(content).followed()


def test_what_has_changed_is_in_force(caplog: pytest.LogCaptureFixture) -> None:
    source = Source("1")
    followed = source.followed()
    source.content = "2"
    followed.refresh()
    assert followed.value == 2
    assert caplog.messages == ["the numbers have changed; the new ones are in force"]


def test_what_has_not_changed_is_not_parsed_again(caplog: pytest.LogCaptureFixture) -> None:
    source = Source("1")
    followed = source.followed()
    followed.refresh()
    assert (followed.value, source.parsed) == (1, 1)
    assert caplog.messages == []


@pytest.mark.parametrize("content", [None, "x"])
def test_what_is_wrong_leaves_the_old_in_force_and_is_told_once(
    caplog: pytest.LogCaptureFixture, content: str | None
) -> None:
    source = Source("1")
    followed = source.followed()
    source.content = content
    followed.refresh()
    followed.refresh()
    assert followed.value == 1
    [message] = caplog.messages
    assert message.endswith("; the numbers read before stay in force")


def test_an_error_of_another_kind_is_told_by_its_name_alone(
    caplog: pytest.LogCaptureFixture,
) -> None:
    source = Source("1")
    followed = source.followed()
    for source.content in ("secret", "2"):
        followed.refresh()
    assert followed.value == 2
    assert caplog.messages == [
        "ValueError; the numbers read before stay in force",
        "the numbers have changed; the new ones are in force",
    ]


def test_what_was_wrong_and_is_right_again_is_in_force_and_may_be_wrong_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    source = Source("1")
    followed = source.followed()
    for source.content in ("x", "2", "x"):
        followed.refresh()
    assert followed.value == 2
    assert len(caplog.messages) == 3


def test_going_back_to_what_is_in_force_is_a_recovery(caplog: pytest.LogCaptureFixture) -> None:
    source = Source("1")
    followed = source.followed()
    for source.content in ("x", "1", "x"):
        followed.refresh()
    assert [record.levelname for record in caplog.records] == ["ERROR", "ERROR"]
