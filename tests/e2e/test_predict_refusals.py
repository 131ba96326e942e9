"""What /predict does not take, and what it says then."""

import json
import struct
import zlib

import httpx
import pytest
from PIL import Image

from tests.e2e.conftest import INPUT_LIMIT
from tests.e2e.predicting import CNN, FORMATS, LABEL, MLP, PARSE, SHAPE, TYPES, encoded, refused
from training.data.dataset import Dataset


@pytest.fixture
def digit(mnist: Dataset) -> Image.Image:
    """The first test image, a seven: 28 x 28 grey."""
    return Image.fromarray(mnist.test_x[0, 0])


def announcing(width: int, height: int) -> bytes:
    """A PNG of a few bytes that says it is that large."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = zlib.crc32(kind + data)
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", check)

    return b"".join(
        (
            b"\x89PNG\r\n\x1a\n",
            chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)),
            chunk(b"IDAT", zlib.compress(bytes(1000))),
            chunk(b"IEND", b""),
        )
    )


@pytest.mark.parametrize("size", [(9000, 8000), (20_000, 20_000), (2**31 - 1, 2**31 - 1)])
def test_a_small_file_that_announces_a_huge_picture_is_refused(
    rest: httpx.Client, size: tuple[int, int]
) -> None:
    answer = rest.post(CNN, content=announcing(*size), headers={"Content-Type": "image/png"})
    assert refused(answer) == (
        f"body: expected an image of at most 67108864 pixels in all, got {size[0]} x {size[1]}"
    )


@pytest.mark.parametrize(
    ("content", "got"),
    [
        (b"", "nothing"),
        (b"a seven", "something else"),
        (b"\x89PNG\r\n\x1a\n", "something else"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "something else"),
        (encoded(Image.new("L", (28, 28)), "GIF"), "something else"),
        (encoded(Image.new("L", (28, 28)), "BMP"), "something else"),
        (encoded(Image.new("L", (28, 28)), "TIFF"), "something else"),
    ],
    ids=["nothing", "text", "signature only", "SVG", "GIF", "BMP", "TIFF"],
)
@pytest.mark.parametrize("form", [False, True])
def test_what_is_no_picture_is_refused(
    rest: httpx.Client, content: bytes, got: str, form: bool
) -> None:
    if form:
        message = refused(rest.post(CNN, files={"file": ("a.png", content)}))
        assert message == f"file 'a.png': {FORMATS}{got}"
    else:
        message = refused(rest.post(CNN, content=content, headers={"Content-Type": "image/png"}))
        assert message == f"body: {FORMATS}{got}"


@pytest.mark.parametrize("format", TYPES)
def test_half_a_picture_is_refused(rest: httpx.Client, mnist: Dataset, format: str) -> None:
    content = encoded(Image.fromarray(mnist.test_x[:20, 0].reshape(560, 28)), format)
    answer = rest.post(CNN, content=content[: len(content) // 2])
    assert refused(answer).startswith(f"body: {FORMATS}a broken one: ")


def test_one_bad_file_among_good_ones_is_named(rest: httpx.Client, digit: Image.Image) -> None:
    files = [("file", ("good.png", encoded(digit))), ("file", ("bad.png", b"?"))]
    assert refused(rest.post(CNN, files=files)) == f"file 'bad.png': {FORMATS}something else"


def test_a_form_without_a_file_is_refused(rest: httpx.Client) -> None:
    body = '--x\r\nContent-Disposition: form-data; name="file"\r\n\r\ntext\r\n--x--\r\n'
    for content in (body, "--x--\r\n"):
        answer = rest.post(
            CNN, content=content, headers={"Content-Type": "multipart/form-data; boundary=x"}
        )
        assert refused(answer) == (
            "the form holds no file; expected one for each example, as in -F file=@digit.png"
        )


@pytest.mark.parametrize("type", ["multipart/form-data", "multipart/form-data; boundary=y"])
def test_a_form_that_cannot_be_read_is_refused(rest: httpx.Client, type: str) -> None:
    answer = rest.post(CNN, content=b"--x\r\nno form", headers={"Content-Type": type})
    assert refused(answer).startswith("the form cannot be read: ")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("{}", "inputs: expected a list, got null"),
        ('{"features": [1]}', "inputs: expected a list, got null"),
        ("7", "body: expected a list, got 7"),
        ('"seven"', "body: expected a list, got 'seven'"),
        (str([0] * 63), f"{SHAPE}Expected [-1,64], got [1,63]."),
        ("[]", f"{SHAPE}Expected [-1,64], got [1,0]."),
        ("[[]]", f"{SHAPE}Expected [-1,64], got [1,0]."),
        (
            "[[[0]]]",
            "inputs: expected an example of shape [64] for input 'features', or a list of such "
            "examples, got a list of shape [1, 1, 1]",
        ),
        ("[" * 200 + "]" * 200, f"{PARSE}JSON nesting depth exceeds the limit of 100"),
        (
            str([[0] * 64, [0] * 63]),
            "inputs: expected one flat list or lists nested as shape [2, 64], got a list of 63 in "
            "place of 64",
        ),
        (
            json.dumps([0] * 63 + ["a"]),
            "inputs: expected numbers within the range of FP32, got 'a' at element 63",
        ),
        (
            json.dumps([0] * 63 + [None]),
            "inputs: expected numbers within the range of FP32, got null at element 63",
        ),
        ("[1,", PARSE),
        ("", PARSE),
    ],
)
def test_json_that_is_no_example_is_refused(rest: httpx.Client, body: str, message: str) -> None:
    answer = rest.post(MLP, content=body, headers={"Content-Type": "application/json"})
    assert refused(answer).startswith(message)


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity"])
def test_numbers_that_are_not_finite_are_refused(rest: httpx.Client, value: str) -> None:
    body = str([0] * 64).replace("0]", f"{value}]")
    answer = rest.post(MLP, content=body, headers={"Content-Type": "application/json"})
    assert refused(answer) == (
        f"{LABEL}input 'features' for model 'digits-mlp' must hold finite numbers, "
        f"got {float(value)} at [0,63]"
    )


@pytest.mark.parametrize("value", ["-1", "256", "1.5"])
def test_pixels_out_of_range_are_refused(rest: httpx.Client, value: str) -> None:
    body = str([0] * 784).replace("0]", f"{value}]")
    answer = rest.post(CNN, content=body, headers={"Content-Type": "application/json"})
    assert "integers from 0 to 255 for UINT8" in refused(answer)


@pytest.mark.parametrize("top_k", ["0", "-1", "many", "1.5", ""])
def test_a_number_of_classes_that_is_none_is_refused(rest: httpx.Client, top_k: str) -> None:
    answer = rest.post(MLP, json=[0] * 64, params={"top_k": top_k})
    assert refused(answer).startswith("query.top_k: ")


def test_a_picture_for_a_model_of_numbers_is_refused(
    rest: httpx.Client, digit: Image.Image
) -> None:
    answer = rest.post(MLP, content=encoded(digit), headers={"Content-Type": "image/png"})
    assert refused(answer) == (
        "input 'features' is FP32 [64], which no image can fill; send a JSON list instead"
    )


def test_more_examples_than_a_batch_holds_are_refused(rest: httpx.Client) -> None:
    answer = rest.post(MLP, json=[[0] * 64] * 65)
    assert "batch-size must be <= 64" in refused(answer)


@pytest.mark.parametrize(
    ("path", "status"),
    [("/predict/nobody", 404), (f"{MLP}?version=9", 404), (f"{MLP}?version=latest", 400)],
)
def test_unknown_models_and_versions_are_told_apart(
    rest: httpx.Client, path: str, status: int
) -> None:
    answer = rest.post(path, json=[0] * 64)
    assert answer.status_code == status
    assert "is not" in answer.json()["error"]


def test_a_picture_beyond_the_limit_of_a_body_is_refused(rest: httpx.Client) -> None:
    answer = rest.post(CNN, files={"file": ("a.png", bytes(INPUT_LIMIT))})
    assert answer.status_code == 413
    assert f"accepts at most {INPUT_LIMIT}" in answer.json()["error"]
