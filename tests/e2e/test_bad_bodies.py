"""Bodies over REST that are malformed, of the wrong size or packed wrongly are refused."""

import gzip
import re
import socket
import zlib
from typing import Final

import httpx
import pytest

from tests.e2e.asking import LABEL, MODEL, SIZE, ZEROS, Answer, answered, infer_text
from tests.e2e.conftest import INPUT_LIMIT
from tests.e2e.server import Server

pytestmark = pytest.mark.usefixtures("unbroken")


JSON_FAULTS: Final[dict[str, tuple[bytes, str]]] = {
    "nothing": (b"", "failed to parse the request JSON buffer: .*"),
    "half of it": (b'{"inputs": [', "failed to parse the request JSON buffer: .*"),
    "no JSON": (b"features=1", "failed to parse the request JSON buffer: .*"),
    "no Unicode": (b'{"id": "\xff\xfe"}', "failed to parse the request JSON buffer: .*"),
    "deep nesting": (
        b'{"inputs": ' + b"[" * 200 + b"]" * 200 + b"}",
        "failed to parse the request JSON buffer: JSON nesting depth exceeds the limit of 100",
    ),
    "a key twice": (
        b'{"inputs": [], "inputs": []}',
        "failed to parse the request JSON buffer: key 'inputs' is given more than once in one "
        "object",
    ),
    "a list": (b"[]", r"request: expected a JSON object, got \[\]"),
    "no inputs": (b"{}", "inputs: expected a list, got null"),
    "inputs that are none": (b'{"inputs": 7}', "inputs: expected a list, got 7"),
    "an input that is none": (
        b'{"inputs": ["features"]}',
        r"inputs\[0\]: expected a JSON object, got 'features'",
    ),
    "an id that is no text": (b'{"id": 7, "inputs": []}', "id: expected a string, got 7"),
    "parameters that are none": (
        b'{"parameters": [], "inputs": []}',
        r"parameters: expected a JSON object, got \[\]",
    ),
    "no name": (infer_text(name=None), r"inputs\[0\].name: expected a string, got null"),
    "no datatype": (
        infer_text(datatype=None),
        r"inputs\[0\].datatype: unknown datatype None; expected one of BOOL, .*",
    ),
    "no shape": (
        infer_text(shape=None),
        r"inputs\[0\].shape: expected a list of non-negative integers, got null",
    ),
    "a shape of texts": (
        infer_text(shape=["1", "64"]),
        r"inputs\[0\].shape: expected a list of non-negative integers, got \['1', '64'\]",
    ),
    "a shape of fractions": (
        infer_text(shape=[1, 64.5]),
        r"inputs\[0\].shape: expected a list of non-negative integers, got \[1, 64.5\]",
    ),
    "no data": (
        infer_text(data=None),
        r"inputs\[0\]: expected either data or parameters.binary_data_size, got neither",
    ),
    "base64 in place of numbers": (
        infer_text(data="AAAAAAAA//8="),
        r"inputs\[0\].data: expected a list, got 'AAAAAAAA//8='",
    ),
    "nonsense in place of base64": (
        infer_text(data="%%%"),
        r"inputs\[0\].data: expected a list, got '%%%'",
    ),
    "texts in place of numbers": (
        infer_text(data=["zero"] * 64),
        r"inputs\[0\].data: expected numbers within the range of FP32, got 'zero' at element 0",
    ),
    "a number that FP32 cannot hold": (
        infer_text(data=[*ZEROS[:-1], 1e39]),
        r"inputs\[0\].data: expected numbers within the range of FP32, got 1e\+39 at element 63",
    ),
    "a number that nothing can hold": (
        infer_text().replace(b"0.0", b"1e999", 1),
        "failed to parse the request JSON buffer: .*",
    ),
    "a row that is too short": (
        infer_text(data=[ZEROS[:-1]]),
        r"inputs\[0\].data: expected one flat list or lists nested as shape \[1, 64\], "
        "got a list of 63 in place of 64",
    ),
    "binary data without any": (
        infer_text(data=None, parameters={"binary_data_size": 256}),
        "unexpected size for input 'features', expecting 256 additional bytes for model "
        "'digits-mlp'",
    ),
}


@pytest.mark.parametrize(("content", "message"), JSON_FAULTS.values(), ids=JSON_FAULTS.keys())
def test_json_that_is_no_request_is_refused(
    http: httpx.Client, content: bytes, message: str
) -> None:
    answer = answered(http.post(f"/v2/models/{MODEL}/infer", content=content))
    assert answer.status == 400
    assert re.fullmatch(message, answer.message), answer.message


@pytest.mark.parametrize(
    ("announced", "length", "message"),
    [
        (256, 255, "unexpected size for input 'features', expecting 1 additional bytes for model"),
        (256, 0, "unexpected size for input 'features', expecting 256 additional bytes for model"),
        (256, 257, "unexpected additional input data for model 'digits-mlp': the binary_data_size"),
        (252, 252, f"{LABEL}{SIZE}"),
        (-1, 256, "inputs[0].parameters.binary_data_size: expected a non-negative integer, got -1"),
        ("256", 256, "inputs[0].parameters.binary_data_size: expected a non-negative integer, go"),
    ],
)
def test_a_binary_part_that_is_not_as_long_as_announced_is_refused(
    http: httpx.Client, announced: int | str, length: int, message: str
) -> None:
    head = infer_text(data=None, parameters={"binary_data_size": announced})
    answer = answered(
        http.post(
            f"/v2/models/{MODEL}/infer",
            content=head + bytes(length),
            headers={"Inference-Header-Content-Length": str(len(head))},
        )
    )
    assert answer.status == 400
    assert answer.message.startswith(message)


@pytest.mark.parametrize("value", ["", "abc", "-1", "1.5", "1e3", "0x10", "9" * 40])
def test_a_length_of_the_json_part_that_is_none_is_refused(http: httpx.Client, value: str) -> None:
    content = infer_text()
    answer = answered(
        http.post(
            f"/v2/models/{MODEL}/infer",
            content=content,
            headers={"Inference-Header-Content-Length": value},
        )
    )
    assert answer.status == 400
    expected = f"an integer from 0 to the body's {len(content)} bytes"
    assert answer.message.startswith(f"Inference-Header-Content-Length: expected {expected}, got ")


def test_a_raw_body_of_another_size_than_the_input_is_refused(http: httpx.Client) -> None:
    answer = answered(
        http.post(
            f"/v2/models/{MODEL}/infer",
            content=bytes(100),
            headers={"Inference-Header-Content-Length": "0"},
        )
    )
    assert answer == Answer(
        400,
        f"{LABEL}{SIZE}. Expected 256, got 100",
    )


TOO_LARGE: Final = (
    f"the request body has more than {INPUT_LIMIT} bytes; the server accepts at most {INPUT_LIMIT} "
    "(--http-max-input-size)"
)
POSTS: Final = [f"/v2/models/{MODEL}/infer", f"/predict/{MODEL}", "/v2/repository/index"]


@pytest.mark.parametrize("path", POSTS)
def test_a_body_that_announces_too_much_is_refused_before_it_is_sent(
    server: Server, path: str
) -> None:
    host, port = server.http.split(":")
    head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {INPUT_LIMIT + 1}\r\n\r\n"
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(head.encode())
        assert connection.recv(65536).startswith(b"HTTP/1.1 413 ")


@pytest.mark.parametrize("path", POSTS)
def test_a_body_that_grows_too_large_chunk_by_chunk_is_refused(
    http: httpx.Client, path: str
) -> None:
    chunks = (bytes(64 * 1024) for _ in range(INPUT_LIMIT // (64 * 1024) + 1))
    assert answered(http.post(path, content=chunks)) == Answer(413, TOO_LARGE)


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_a_small_body_that_unpacks_to_a_large_one_is_refused(
    http: httpx.Client, path: str, encoding: str
) -> None:
    pack = gzip.compress if encoding == "gzip" else zlib.compress
    answer = answered(
        http.post(
            path, content=pack(bytes(64 * 1024 * 1024)), headers={"Content-Encoding": encoding}
        )
    )
    assert answer == Answer(413, TOO_LARGE.replace(" bytes;", " bytes once unpacked;"))


@pytest.mark.parametrize(
    "content",
    [b"not packed", gzip.compress(infer_text(), mtime=0)[:-9]],
    ids=["not packed", "cut off"],
)
def test_a_broken_packed_body_is_refused(http: httpx.Client, content: bytes) -> None:
    answer = answered(
        http.post(
            f"/v2/models/{MODEL}/infer", content=content, headers={"Content-Encoding": "gzip"}
        )
    )
    assert answer.status == 400
    assert re.match("the body(?:'s gzip data ends too early| is not valid gzip)", answer.message)


def test_an_unknown_packing_is_not_offered_and_the_answer_says_which_are(
    http: httpx.Client,
) -> None:
    response = http.post(
        f"/v2/models/{MODEL}/infer", content=infer_text(), headers={"Content-Encoding": "br"}
    )
    assert answered(response) == Answer(
        501, "Content-Encoding is 'br', expected one of: gzip, deflate"
    )
    assert response.headers["accept-encoding"] == "gzip, deflate"
