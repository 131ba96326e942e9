"""Heads of requests are known again by their bytes, and only where these can mean one thing."""

import pytest

from serving.gateway.heads import Head, Heads

FIELDS = [(b"host", b"test"), (b"content-length", b"3")]
TEXT = b"POST /v2/models/m/infer HTTP/1.1\r\nHost: test\r\nContent-Length: 3\r\n\r\n"
HEAD = Head("m", "", 3, None, "", FIELDS)


def test_a_head_is_found_again_and_the_place_of_its_body() -> None:
    heads = Heads()
    heads.learn(TEXT + b"abc", HEAD)
    assert heads.find(TEXT + b"def") == (HEAD, len(TEXT))
    assert heads.find(TEXT) == (HEAD, len(TEXT))


@pytest.mark.parametrize(
    "data",
    [b"", TEXT[:-1], TEXT.replace(b"3", b"4"), b"\r\n" + TEXT, b"abc" + TEXT],
    ids=["nothing", "incomplete", "another", "a line before", "anything before"],
)
def test_what_differs_is_not_found(data: bytes) -> None:
    heads = Heads()
    heads.learn(TEXT, HEAD)
    assert heads.find(data) is None


@pytest.mark.parametrize(
    "text",
    [
        TEXT.replace(b"\r\n", b"\n") + b"a\r\n\r\n",
        TEXT.replace(b"test\r\n", b"test\n"),
        TEXT.replace(b"test\r\n", b"te\r\n st\r\n"),
        b"\r\n" + TEXT,
        TEXT.replace(b"POST", b"post"),
        TEXT.replace(b"test", b"t" * 4096),
    ],
    ids=["bare newlines", "one of them", "a folded line", "a line before", "a method", "long"],
)
def test_what_parsers_may_read_in_two_ways_is_not_learnt(text: bytes) -> None:
    heads = Heads()
    heads.learn(text, HEAD)
    assert heads.find(text) is None


def test_heads_that_never_come_again_do_not_add_up() -> None:
    heads = Heads()
    texts = [TEXT.replace(b"test", b"%d" % number) for number in range(5000)]
    for text in texts:
        heads.learn(text, HEAD)
    assert heads.find(texts[-1])
    assert sum(heads.find(text) is not None for text in texts) <= 512
