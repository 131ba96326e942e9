"""The endpoint for people: any usual picture, or a list of numbers, gives labels."""

import io
import json
from typing import Any, Final

import httpx
import numpy as np
import pytest
from PIL import Image

from serving.bench.client.server_timing import durations
from serving.types import Array
from tests.e2e.predicting import (
    CNN,
    MLP,
    ORIENTATION,
    TYPES,
    asked,
    encoded,
    predict,
    probabilities,
)
from training.data.dataset import Dataset


@pytest.fixture
def digit(mnist: Dataset) -> Image.Image:
    """The first test image, a seven: 28 x 28 grey."""
    return Image.fromarray(mnist.test_x[0, 0])


@pytest.fixture
def expected(rest: httpx.Client, digit: Image.Image) -> Array:
    """What the tensor endpoint gives for the pixels of `digit`."""
    return asked(rest, np.asarray(digit))


def test_an_answer_says_where_its_time_went(rest: httpx.Client, digit: Image.Image) -> None:
    answer = rest.post(CNN, content=encoded(digit, "PNG"))
    told = dict(durations(answer.headers["server-timing"]))
    assert 0 < told["compute"] < told["total"]


def test_a_refusal_says_how_long_it_took(rest: httpx.Client) -> None:
    answer = rest.post(CNN, content=b"no picture")
    assert answer.status_code == 400
    assert [name for name, _ in durations(answer.headers["server-timing"])] == ["total"]


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
