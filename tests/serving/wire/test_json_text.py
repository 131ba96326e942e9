"""The limits within which bytes are read as JSON."""

import json
import math

import pytest

from serving.errors import InvalidArgument
from serving.wire import json_text

# White space after a text makes it long without changing it; long texts are searched differently.
PADDING = pytest.mark.parametrize("padding", [0, 4096])


def refusal(text: bytes) -> str:
    with pytest.raises(InvalidArgument) as caught:
        json_text.loads(text)
    return caught.value.message


@PADDING
@pytest.mark.parametrize(
    "text",
    [
        b"[" * 100 + b"]" * 100,
        b'{"a":' * 100 + b"1" + b"}" * 100,
        b'["' + b"[" * 500 + b'"]',
        b'["\\"[' + b"{" * 500 + b'"]',
        json.dumps([[1]] * 500).encode(),
    ],
)
def test_values_nested_up_to_the_limit_are_read(text: bytes, padding: int) -> None:
    assert json_text.loads(text + b" " * padding) == json.loads(text + b" " * padding)


@PADDING
@pytest.mark.parametrize(
    "text",
    [
        b"[" * 101 + b"]" * 101,
        b'{"a":' * 101 + b"1" + b"}" * 101,
        b'[{"a":' * 51 + b"1" + b"}]" * 51,
        b'["' + b"]" * 500 + b'",' + b"[" * 100 + b"]" * 100 + b"]",
        b"[1," + b"[" * 100 + b"]" * 100 + b"]",
        b"[NaN," + b"[" * 100 + b"]" * 100 + b"]",
    ],
)
def test_deeper_nesting_is_refused(text: bytes, padding: int) -> None:
    assert "JSON nesting depth exceeds the limit of 100" in refusal(text + b" " * padding)


@pytest.mark.parametrize("opening", [b"[", b'{"a":', b"[NaN,", b'[{"a":NaN,"b":'])
@pytest.mark.parametrize("closing", [b"", b"]", b"}", b"}]"])
def test_a_bomb_of_brackets_is_refused_at_once(opening: bytes, closing: bytes) -> None:
    assert refusal(opening * 1_000_000 + b"1" + closing * 1_000_000)


@PADDING
@pytest.mark.parametrize(
    "text",
    [
        b'{"a":1,"a":2}',
        b'{"x":{"a:":1,"a:":2}}',
        b'[1,{"a":1,"a":1}]',
        b'{"x":[{"a":1},3,{"b":[],"b":[]}]}',
        b'{"a":NaN,"a":1}',
        b'{"\\u0061":1,"a":2}',
        b'{"a":"\\u003a","a":1}',
        b'{"b":"\\u003a","a":1,"a":1}',
        b'{"b":"\\u003A","a":1,"a":1}',
        b'{"b":["::"],"a":":","a":1}',
    ],
)
def test_a_key_twice_in_one_object_is_refused(text: bytes, padding: int) -> None:
    assert "is given more than once in one object" in refusal(text + b" " * padding)


@PADDING
@pytest.mark.parametrize(
    "text",
    [
        b'{"a:b":1,"c":"d:e"}',
        b'{"x":[{"a":1},{"a":1}],"a":{"a":[1,{"a":2}]}}',
        b'[":", "::"]',
        b'{"a\\":":{":":":"}}',
        b'{"a":["\\u003a", ":", "::"]}',
        b'{"a":[1,":",{"b":2}],"b":2}',
    ],
)
def test_colons_and_keys_of_different_objects_are_no_repetition(text: bytes, padding: int) -> None:
    assert json_text.loads(text + b" " * padding) == json.loads(text + b" " * padding)


def test_numbers_that_are_not_finite_have_names() -> None:
    first, *rest = json_text.loads(b'[NaN, Infinity, -Infinity, 1e5, "NaN"]')
    assert math.isnan(first)
    assert rest == [math.inf, -math.inf, 1e5, "NaN"]


@pytest.mark.parametrize("text", [b'{"a":[1]}', b"[Infinity]", b'{"a":":"}'])
def test_a_byte_order_mark_says_nothing(text: bytes) -> None:
    assert json_text.loads(b"\xef\xbb\xbf" + text) == json_text.loads(text)


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b" ",
        b"{",
        b'{"a":1}x',
        b"nan",
        b"+Infinity",
        b"[NaN",
        b"[1e999]",
        b"[NaN,1e999]",
        b"[NaN,-1e999]",
        b"9" * 5000,
        b"[NaN," + b"9" * 5000 + b"]",
        b"\xef\xbb\xbf",
        b"\xef\xbb\xbf\xef\xbb\xbf{}",
        b"{}\xef\xbb\xbf",
        b'"\xff"',
        b'[NaN,"\xff"]',
        b'["\\ud800"]',
        b'[NaN,"\\ud800"]',
        b'{"\\udc00":NaN}',
        b'["\xed\xa0\x80"]',
        '{"a": NaN}'.encode("utf-16"),
        b"[1]\x00",
    ],
)
def test_what_is_not_json_is_refused_in_tritons_words(text: bytes) -> None:
    assert refusal(text).startswith("failed to parse the request JSON buffer: ")


@pytest.mark.parametrize(("container", "is_read"), [(b"[]", True), (b"{}", True), (b"[[]]", False)])
def test_there_may_be_a_million_lists_and_objects(container: bytes, is_read: bool) -> None:
    count = json_text.MAX_CONTAINERS - 1
    text = b"[" + b",".join([container] * count) + b"]"

    if is_read:
        assert len(json_text.loads(text)) == count
    else:
        assert "more than 1000000 lists and objects" in refusal(text)


def test_a_long_text_may_have_as_many_values_as_fit() -> None:
    text = b"[" + b"1," * 2_000_000 + b"1]"

    assert len(json_text.loads(text)) == 2_000_001
