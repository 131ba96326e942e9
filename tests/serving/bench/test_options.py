"""The words of the command line mean what they look like; others are told what was expected."""

from pathlib import Path

import click
import pytest

from serving.bench import options
from serving.bench.plan import Protocol


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("10s", 10.0), ("500ms", 0.5), ("2m", 120.0), ("0.25", 0.25), ("1h", 3600)],
)
def test_a_time_has_a_unit_or_is_in_seconds(text: str, seconds: float) -> None:
    assert options.seconds(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("text", "rates"),
    [
        ("100", [100]),
        ("1,8,32", [1, 8, 32]),
        ("100:300:100", [100, 200, 300]),
        ("1:3,9", [1, 2, 3, 9]),
    ],
)
def test_loads_are_a_list_or_a_range_with_both_ends(text: str, rates: list[float]) -> None:
    assert options.rates(text) == rates
    assert options.counts(text) == rates


@pytest.mark.parametrize("text", ["9" * 400, "99999999999h", "soon"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected a time"):
        options.seconds(text)


@pytest.mark.parametrize("text", ["1e-300", "1,1e300"])
def test_a_rate_that_nobody_can_send_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected rates from 1e-06 to 1e\+07/s"):
        options.rates(text)


@pytest.mark.parametrize(
    "text", ["0", "-1", "x", "5:1:1", "1:5:0", "1:2:3:4", "1:9999999:1", "nan", "1:nan:1", "1e999"]
)
def test_what_is_no_load_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        options.rates(text)


def test_connections_are_no_more_than_there_can_be() -> None:
    with pytest.raises(ValueError, match="at most 65535 connections"):
        options.counts("1,99999999999")


def test_connections_are_whole_numbers() -> None:
    with pytest.raises(ValueError, match="whole numbers"):
        options.counts("1.5")


@pytest.mark.parametrize(
    ("text", "shape"), [("image:1,28,28", ("image", (1, 28, 28))), ("a:b:3", ("a:b", (3,)))]
)
def test_a_shape_belongs_to_an_input(text: str, shape: tuple[str, tuple[int, ...]]) -> None:
    assert options.shape(text) == shape


@pytest.mark.parametrize("text", ["image", "image:x", "image:1,-1"])
def test_what_is_no_shape_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="NAME:1,28,28"):
        options.shape(text)


def test_a_file_that_cannot_be_written_is_refused_before_it_is_measured(tmp_path: Path) -> None:
    chosen = options.NEW_FILE.convert(str(tmp_path / "new.json"), None, None)
    assert chosen == tmp_path / "new.json"
    with pytest.raises(click.BadParameter, match=f"there is no folder {tmp_path}/none"):
        options.NEW_FILE.convert(str(tmp_path / "none" / "new.json"), None, None)
    with pytest.raises(click.BadParameter, match="File name too long"):
        options.NEW_FILE.convert(str(tmp_path / ("a" * 300)), None, None)


@pytest.mark.parametrize(
    "text", ["Authorization", "a b: c", "a: b\r\nc: d", "a: \u20ac", "\u20ac: a"]
)
def test_what_is_no_header_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="Name: value"):
        options.header(text)


@pytest.mark.parametrize(
    ("url", "protocol", "found"),
    [
        ("localhost", None, (Protocol.BINARY, "localhost", 8000, False, "")),
        ("localhost", Protocol.GRPC, (Protocol.GRPC, "localhost", 8001, False, "")),
        ("http://a:9/x/", Protocol.JSON, (Protocol.JSON, "a", 9, False, "/x")),
        ("grpcs://a", None, (Protocol.GRPC, "a", 443, True, "")),
        ("[::1]:80", None, (Protocol.BINARY, "::1", 80, False, "")),
    ],
)
def test_an_address_has_a_protocol_and_defaults(
    url: str, protocol: Protocol | None, found: tuple[Protocol, str, int, bool, str]
) -> None:
    assert options.address(url, protocol) == found


@pytest.mark.parametrize(
    ("url", "protocol"),
    [
        ("ftp://a", None),
        ("http://a", Protocol.GRPC),
        ("grpc://a", Protocol.JSON),
        ("grpc://a/x", None),
        ("http://", None),
        ("a:x", None),
    ],
)
def test_what_is_no_address_is_refused(url: str, protocol: Protocol | None) -> None:
    with pytest.raises(ValueError, match=r".+"):
        options.address(url, protocol)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["bench", "m", "--rate", "1"], "penstock bench m --rate 1"),
        (["--header", "X-Key: secret", "m"], "penstock --header 'X-Key: ...' m"),
        (["--header=Authorization: Bearer secret"], "penstock '--header=Authorization: ...'"),
        (["--header", "--header: secret", "x=y"], "penstock --header '--header: ...' x=y"),
    ],
)
def test_a_report_shows_no_values_of_headers(words: list[str], told: str) -> None:
    assert options.command_line(words) == told
