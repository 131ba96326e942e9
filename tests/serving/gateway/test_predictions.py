"""What `/predict` makes of outputs: a picture, series with names, or the classes."""

import base64
import io
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tokenizers.normalizers import Lowercase

from serving.dtypes import Datatype
from serving.errors import InvalidArgument
from serving.gateway import predictions
from serving.types import Array, InferenceResponse, Tensor
from serving.wire import json_text
from training.data import tokens


def response(**outputs: Array) -> InferenceResponse:
    tensors = tuple(Tensor(name, Datatype.FP32, array) for name, array in outputs.items())
    return InferenceResponse(model="m", version="1", outputs=tensors)


def pixels(content: bytes) -> Array:
    return np.asarray(Image.open(io.BytesIO(content)))


def answer(given: InferenceResponse, kind: str, *columns: str) -> Any:
    return predictions.document({}, given, kind, columns, 5)["predictions"]


def test_pictures_stand_side_by_side_from_black_to_white() -> None:
    pictures = np.array([[[[0.0, 1.0]]], [[[0.5, 7.0]]]], np.float32)
    np.testing.assert_array_equal(
        pixels(predictions.png(response(image=pictures))), [[0, 255, 128, 255]]
    )


@pytest.mark.parametrize(
    ("datatype", "given", "shown"),
    [
        (Datatype.UINT8, [0, 128, 255], [0, 128, 255]),
        (Datatype.INT8, [-1, 0, 127], [0, 0, 127]),
        (Datatype.INT64, [0, 128, 2**40], [0, 128, 255]),
        (Datatype.UINT64, [0, 128, 2**64 - 1], [0, 128, 255]),
        (Datatype.BOOL, [False, True, False], [0, 255, 0]),
        (Datatype.FP16, [0.0, 0.5, np.inf], [0, 128, 255]),
    ],
)
def test_whole_numbers_are_white_at_255(
    datatype: Datatype, given: list[float], shown: list[int]
) -> None:
    array = np.array(given, datatype.numpy).reshape(1, 1, 1, 3)
    answered = InferenceResponse("m", "1", (Tensor("image", datatype, array),))
    assert pixels(predictions.png(answered)).tolist() == [shown]


def test_more_pictures_than_fit_go_on_in_further_rows() -> None:
    across = predictions.ACROSS
    pictures = np.ones((across + 2, 1, 2, 3), np.float32)
    picture = pixels(predictions.png(response(image=pictures)))
    assert picture.shape == (2 * 2, 3 * across)
    assert picture[:2].all()
    assert picture[2:, :6].all()
    assert not picture[2:, 6:].any()


def test_colours_keep_their_places() -> None:
    picture = np.array([1.0, 0.0, 0.5], np.float32).reshape(1, 3, 1, 1)
    assert pixels(predictions.png(response(image=picture))).tolist() == [[[255, 0, 128]]]


def test_json_has_each_picture_as_a_data_url_beside_the_other_outputs() -> None:
    given = response(
        latent=np.array([[1, 2], [3, 4]], np.float32), image=np.ones((2, 1, 2, 2), np.float32)
    )
    first, second = answer(given, predictions.IMAGE)
    head, _, data = first["image"].partition(",")
    assert head == "data:image/png;base64"
    np.testing.assert_array_equal(pixels(base64.b64decode(data)), np.full((2, 2), 255))
    assert second["latent"].tolist() == [3, 4]


@pytest.mark.parametrize("other", [np.float32(7), np.zeros(3, np.float32)])
def test_what_is_of_all_pictures_together_is_not_told_of_each(other: Array) -> None:
    given = response(image=np.ones((2, 1, 2, 2), np.float32), other=np.asarray(other))
    assert [list(each) for each in answer(given, predictions.IMAGE)] == [["image"], ["image"]]


def test_a_model_without_a_picture_cannot_answer_with_one() -> None:
    with pytest.raises(InvalidArgument, match=r"no output of the shape .*scores \[1, 4\]"):
        predictions.png(response(scores=np.zeros((1, 4), np.float32)))


@pytest.mark.parametrize(
    ("datatype", "picture"),
    [
        (Datatype.FP32, np.zeros((1, 1, 0, 2), np.float32)),
        (Datatype.BYTES, np.full((1, 1, 2, 2), b"dark", object)),
        (Datatype.BF16, np.zeros((1, 1, 2, 2), np.uint16)),
    ],
)
def test_what_has_no_pixels_or_no_brightness_is_no_picture(
    datatype: Datatype, picture: Array
) -> None:
    given = InferenceResponse("m", "1", (Tensor("image", datatype, picture),))
    with pytest.raises(InvalidArgument, match=f"no output of the shape .* of {datatype.wire}"):
        predictions.png(given)


def test_texts_beside_a_picture_are_told() -> None:
    image = Tensor("image", Datatype.FP32, np.ones((2, 1, 2, 2), np.float32))
    title = Tensor("title", Datatype.BYTES, np.array([[b"one"], [b"two"]], object))
    first, second = answer(InferenceResponse("m", "1", (image, title)), predictions.IMAGE)
    told = [json_text.dumps(each["title"]) for each in (first, second)]
    assert told == [b'["one"]', b'["two"]']


@pytest.mark.parametrize("array", [np.zeros(3, np.float32), np.zeros((), np.float32)])
def test_a_model_without_columns_cannot_answer_with_series(array: Array) -> None:
    with pytest.raises(InvalidArgument, match=r"its output 'forecast' is .*, not \[rows, steps"):
        answer(response(forecast=array), predictions.FORECAST)


def test_scores_of_no_classes_are_told_as_they_are() -> None:
    given = response(probabilities=np.zeros((1, 0), np.float32))
    document = predictions.document({}, given, "", (), 5)
    assert list(document["outputs"]) == ["probabilities"]


def test_series_go_by_the_columns_of_the_input() -> None:
    given = response(forecast=np.arange(6, dtype=np.float32).reshape(1, 3, 2))
    [prediction] = answer(given, predictions.FORECAST, "load", "oil")
    assert {name: series.tolist() for name, series in prediction.items()} == {
        "load": [0, 2, 4],
        "oil": [1, 3, 5],
    }


def test_series_without_names_are_numbered() -> None:
    [prediction] = answer(response(forecast=np.zeros((1, 3, 2), np.float32)), predictions.FORECAST)
    assert list(prediction) == ["0", "1"]


def test_a_model_without_tokens_to_read_cannot_answer_with_translations() -> None:
    with pytest.raises(InvalidArgument, match=r"no tokenizer\.json or no output"):
        answer(response(score=np.ones((1, 1), np.float32)), "translation")
    numbers = response(output_ids=np.ones((1, 1), np.float32))
    with pytest.raises(InvalidArgument, match=r"no tokenizer\.json or no output"):
        predictions.document({}, numbers, "translation", (), 5, tokenizer="{}")


def test_a_translation_is_told_with_what_there_is_one_of_for_each_text() -> None:
    tokenizer = tokens.learn(["a good film"], Lowercase(), 60, 40)
    good = tokenizer.encode("good").ids
    outputs = (
        Tensor("output_ids", Datatype.INT64, np.array([good, good])),
        Tensor("score", Datatype.FP32, np.array([[-1], [-2]], np.float32)),
        Tensor("of all", Datatype.FP32, np.array([[3]], np.float32)),
        Tensor("weights", Datatype.FP32, np.zeros((2, 2), np.float32)),
        Tensor("name", Datatype.BYTES, np.array([[b"one"], [b"two"]], object)),
    )
    document = predictions.document(
        {}, InferenceResponse("m", "1", outputs), "translation", (), 5, tokenizer.to_str()
    )
    assert document["predictions"] == [
        {"translation": "▁good", "score": -1},
        {"translation": "▁good", "score": -2},
    ]
