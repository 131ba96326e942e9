"""The endpoint for people: any usual picture, or a list of numbers, gives labels."""

import io
import json
import struct
import zlib
from typing import Any, Final

import httpx
import numpy as np
import pytest
from PIL import Image

from serving.types import Array
from tests.e2e.conftest import INPUT_LIMIT
from training.data.dataset import Dataset

CNN: Final = "/predict/mnist-cnn"
MLP: Final = "/predict/digits-mlp"
TYPES: Final = {"PNG": "image/png", "JPEG": "image/jpeg", "WEBP": "image/webp"}
LABEL: Final = "[request id: <id_unknown>] "
SHAPE: Final = f"{LABEL}unexpected shape for input 'features' for model 'digits-mlp'. "
PARSE: Final = "failed to parse the request JSON buffer: "
ORIENTATION: Final = 0x0112
FORMATS: Final = "expected an image (PNG, JPEG, WEBP), got "


def encoded(picture: Image.Image, format: str = "PNG", **options: Any) -> bytes:
    content = io.BytesIO()
    picture.save(content, format, **options)
    return content.getvalue()


def probabilities(prediction: Any) -> Array:
    """The probabilities of all classes, in the order of the classes."""
    by_label = {each["label"]: each["probability"] for each in prediction["classes"]}
    return np.array([by_label[str(label)] for label in range(10)], np.float32)


def predict(rest: httpx.Client, content: bytes, type: str = "image/png", **options: Any) -> Any:
    """The predictions for a body; all classes of each."""
    response = rest.post(
        CNN,
        content=content,
        headers={"Content-Type": type},
        params={"top_k": 10} | options,
    )
    assert response.status_code == 200, response.text
    return response.json()["predictions"]


def refused(response: httpx.Response) -> str:
    assert response.status_code == 400, response.text
    document = response.json()
    assert list(document) == ["error"]
    return str(document["error"])


@pytest.fixture
def digit(mnist: Dataset) -> Image.Image:
    """The first test image, a seven: 28 x 28 grey."""
    return Image.fromarray(mnist.test_x[0, 0])


@pytest.fixture
def expected(rest: httpx.Client, digit: Image.Image) -> Array:
    """What the tensor endpoint gives for the pixels of `digit`."""
    return asked(rest, np.asarray(digit))


def asked(rest: httpx.Client, pixels: Array) -> Array:
    """The probabilities that the tensor endpoint gives for 28 x 28 pixels."""
    body = {
        "inputs": [
            {
                "name": "image",
                "datatype": "UINT8",
                "shape": [1, 1, 28, 28],
                "data": pixels.reshape(-1).tolist(),
            }
        ],
        "outputs": [{"name": "probabilities"}],
    }
    answer = rest.post("/v2/models/mnist-cnn/infer", json=body).json()
    return np.array(answer["outputs"][0]["data"], np.float32)


@pytest.mark.parametrize("format", ["PNG", "WEBP"])
@pytest.mark.parametrize("form", [False, True])
def test_a_picture_gives_exactly_what_its_pixels_give(
    rest: httpx.Client, digit: Image.Image, expected: Array, format: str, form: bool
) -> None:
    content = encoded(digit, format, lossless=True)
    if form:
        response = rest.post(CNN, params={"top_k": 10}, files={"file": ("digit", content)})
        [prediction] = response.json()["predictions"]
    else:
        [prediction] = predict(rest, content, TYPES[format])
    np.testing.assert_array_equal(probabilities(prediction), expected)
    assert prediction["label"] == "7"
    assert prediction["probability"] == prediction["classes"][0]["probability"]


def test_a_jpeg_gives_what_its_own_pixels_give(rest: httpx.Client, digit: Image.Image) -> None:
    content = encoded(digit, "JPEG", quality=80)
    [prediction] = predict(rest, content, "image/jpeg")
    pixels = np.asarray(Image.open(io.BytesIO(content)))
    np.testing.assert_array_equal(probabilities(prediction), asked(rest, pixels))


def test_the_content_decides_what_a_picture_is_and_not_its_type(
    rest: httpx.Client, digit: Image.Image, expected: Array
) -> None:
    for type in ("image/jpeg", "application/octet-stream", ""):
        [prediction] = predict(rest, encoded(digit), type)
        np.testing.assert_array_equal(probabilities(prediction), expected)


def as_rgba(digit: Image.Image) -> Image.Image:
    """White that covers as much as the digit's pixel is dark: the digit, once put on white."""
    pixels = np.asarray(digit)
    layers = [np.zeros_like(pixels)] * 3 + [255 - pixels]
    return Image.fromarray(np.stack(layers, axis=-1))


def as_palette(digit: Image.Image) -> Image.Image:
    """The same picture, its pixels being places in a list of colours that runs backwards."""
    picture = Image.fromarray(255 - np.asarray(digit)).convert("P")
    picture.putpalette([255 - grey for grey in range(256) for _ in range(3)])
    return picture


SAME: Final = {
    "RGB": lambda digit: digit.convert("RGB"),
    "RGBA": lambda digit: digit.convert("RGBA"),
    "grey with alpha": lambda digit: digit.convert("LA"),
    "transparency on white": as_rgba,
    "palette": as_palette,
    "16 bits": lambda digit: Image.fromarray(np.asarray(digit).astype(np.uint16) * 257),
}


@pytest.mark.parametrize("convert", SAME.values(), ids=SAME.keys())
def test_other_kinds_of_pixels_are_converted(
    rest: httpx.Client, digit: Image.Image, expected: Array, convert: Any
) -> None:
    [prediction] = predict(rest, encoded(convert(digit)))
    np.testing.assert_array_equal(probabilities(prediction), expected)


def test_what_is_transparent_counts_as_white(rest: httpx.Client) -> None:
    clear = Image.new("RGBA", (28, 28), (0, 0, 0, 0))
    [prediction] = predict(rest, encoded(clear))
    white = np.full((28, 28), 255, np.uint8)
    np.testing.assert_array_equal(probabilities(prediction), asked(rest, white))


@pytest.mark.parametrize("format", ["PNG", "JPEG"])
def test_a_photo_that_was_taken_sideways_is_turned_upright(
    rest: httpx.Client, digit: Image.Image, expected: Array, format: str
) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6  # to be turned by 90 degrees clockwise
    sideways = digit.transpose(Image.Transpose.ROTATE_90)
    content = encoded(sideways, format, exif=exif, **({"quality": 100} if format == "JPEG" else {}))
    [prediction] = predict(rest, content)
    tolerance = 0.0 if format == "PNG" else 0.01
    np.testing.assert_allclose(probabilities(prediction), expected, rtol=0, atol=tolerance)


@pytest.mark.parametrize("size", [(280, 280), (84, 56), (20, 20)])
def test_a_picture_of_another_size_is_resized(
    rest: httpx.Client, mnist: Dataset, size: tuple[int, int]
) -> None:
    for pixels, label in zip(mnist.test_x[:5, 0], mnist.test_y[:5], strict=True):
        picture = Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC)
        [prediction] = predict(rest, encoded(picture))
        assert prediction["label"] == str(label)


def test_several_files_give_a_prediction_each_in_their_order(
    rest: httpx.Client, mnist: Dataset
) -> None:
    pictures = [encoded(Image.fromarray(pixels)) for pixels in mnist.test_x[:7, 0]]
    files = [("file", (f"{index}.png", content)) for index, content in enumerate(pictures)]
    answer = rest.post(CNN, files=files).json()
    assert [each["label"] for each in answer["predictions"]] == list(map(str, mnist.test_y[:7]))


def test_the_fields_of_a_form_may_have_any_name(rest: httpx.Client, digit: Image.Image) -> None:
    files = {"picture": ("a.png", encoded(digit)), "another": ("b.png", encoded(digit))}
    answer = rest.post(CNN, files=files, data={"comment": "two sevens"}).json()
    assert [each["label"] for each in answer["predictions"]] == ["7", "7"]


def test_the_answer_names_the_model_and_the_version(rest: httpx.Client, digits: Dataset) -> None:
    for params in ({}, {"version": "1"}):
        answer = rest.post(MLP, json=digits.test_x[0].tolist(), params=params).json()
        assert (answer["model"], answer["version"]) == ("digits-mlp", "1")


@pytest.mark.parametrize(
    "shape", [(64,), (1, 64), (3, 64)], ids=["an example", "a list of one", "a list of three"]
)
@pytest.mark.parametrize("under_a_key", [False, True])
def test_lists_of_numbers_give_what_the_tensor_endpoint_gives(
    rest: httpx.Client, digits: Dataset, shape: tuple[int, ...], under_a_key: bool
) -> None:
    rows = digits.test_x[:3].reshape(-1)[: int(np.prod(shape))].reshape(shape)
    body = {"inputs": rows.tolist()} if under_a_key else rows.tolist()
    answer = rest.post(MLP, json=body, params={"top_k": 10}).json()
    tensors = {
        "inputs": [
            {
                "name": "features",
                "datatype": "FP32",
                "shape": [rows.size // 64, 64],
                "data": rows.reshape(-1).tolist(),
            }
        ],
        "outputs": [{"name": "probabilities"}],
    }
    wanted = rest.post("/v2/models/digits-mlp/infer", json=tensors).json()["outputs"][0]
    np.testing.assert_array_equal(
        [probabilities(each) for each in answer["predictions"]],
        np.array(wanted["data"], np.float32).reshape(-1, 10),
    )


@pytest.mark.parametrize("shape", [(784,), (1, 28, 28), (1, 1, 28, 28), (2, 1, 28, 28)])
def test_pixels_can_be_a_list_too(
    rest: httpx.Client, mnist: Dataset, shape: tuple[int, ...]
) -> None:
    count = int(np.prod(shape)) // 784
    body = json.dumps(mnist.test_x[:count].reshape(shape).tolist()).encode()
    predictions = predict(rest, body, "application/json; charset=utf-8")
    assert [each["label"] for each in predictions] == list(map(str, mnist.test_y[:count]))


@pytest.mark.parametrize(("top_k", "count"), [(1, 1), (3, 3), (10, 10), (10**30, 10), (None, 5)])
def test_as_many_classes_as_asked_for_come_best_first(
    rest: httpx.Client, digits: Dataset, top_k: int | None, count: int
) -> None:
    params = {} if top_k is None else {"top_k": top_k}
    answer = rest.post(MLP, json=digits.test_x[0].tolist(), params=params).json()
    [prediction] = answer["predictions"]
    found = [each["probability"] for each in prediction["classes"]]
    assert len(found) == count
    assert found == sorted(found, reverse=True)
    assert prediction["label"] == prediction["classes"][0]["label"]


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
            "the form holds no file; expected an image, as in -F file=@digit.png"
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
