"""Large requests share a budget of bytes; small ones, and one that is alone, need none of it."""

import pytest

from serving.inflight import LARGE, Inflight


@pytest.fixture
def inflight() -> Inflight:
    """Of whose room half is taken."""
    made = Inflight(4 * LARGE)
    assert made.take(2 * LARGE) == 2 * LARGE
    return made


@pytest.mark.parametrize(
    ("size", "is_admitted"), [(2 * LARGE, True), (2 * LARGE + 1, False), (LARGE - 1, True)]
)
def test_the_room_can_be_taken_to_the_last_byte(
    inflight: Inflight, size: int, is_admitted: bool
) -> None:
    assert inflight.admits(size) is is_admitted


def test_small_requests_take_no_room_and_large_ones_give_theirs_back(inflight: Inflight) -> None:
    assert [inflight.take(size) for size in (LARGE - 1, LARGE)] == [0, LARGE]
    inflight.give_back(3 * LARGE)
    assert inflight.held == 0


def test_who_is_alone_has_room_however_large(inflight: Inflight) -> None:
    assert inflight.admits(9 * LARGE, own=2 * LARGE)
    assert not inflight.admits(9 * LARGE, own=LARGE)


def test_a_refusal_says_what_others_hold(inflight: Inflight) -> None:
    assert inflight.refusal(300_000, own=LARGE) == (
        "the request has 300000 bytes, and 65536 bytes of others are being answered; the server "
        "holds at most 262144 at a time (--max-inflight-bytes)"
    )
    assert "131072 bytes of others" in inflight.refusal(300_000)
