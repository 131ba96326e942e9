"""`/predict` for people: names and tables in, pictures and series out, on the committed models."""

import base64
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from serving.types import Array
from training.data import breast_cancer, ett
from training.data.breast_cancer import FEATURES
from training.data.dataset import Dataset

SEVEN = Path(__file__).parents[2] / "docs" / "seven.png"


def ok(response: httpx.Response) -> Any:
    assert response.status_code == 200, response.text
    return response.json()


def table(columns: Sequence[str], rows: Array) -> str:
    return "\n".join(",".join(map(str, row)) for row in [columns, *rows.tolist()])


@pytest.fixture(scope="module")
def biopsies() -> Dataset:
    return breast_cancer.load()


def test_features_go_by_name_and_a_decision_comes_back(
    rest: httpx.Client, biopsies: Dataset
) -> None:
    rows, labels = biopsies.test_x[:20], biopsies.test_y[:20]
    named = [dict(zip(FEATURES, map(float, row), strict=True)) for row in rows]
    answer = ok(rest.post("/predict/binary-mlp", json=named))
    given = [prediction["label"] for prediction in answer["predictions"]]
    right = sum(label == biopsies.labels[y] for label, y in zip(given, labels, strict=True))
    assert right >= 15
    assert all(prediction["probability"] >= 0.5 for prediction in answer["predictions"])


def test_a_table_gives_what_the_list_gives(rest: httpx.Client, biopsies: Dataset) -> None:
    rows = biopsies.test_x[:3]
    headers = {"Content-Type": "text/csv"}
    by_table = rest.post("/predict/binary-mlp", content=table(FEATURES, rows), headers=headers)
    assert ok(by_table) == ok(rest.post("/predict/binary-mlp", json=rows.tolist()))


def test_a_feature_that_is_missing_is_named(rest: httpx.Client) -> None:
    response = rest.post("/predict/binary-mlp", json={"mean radius": 14})
    assert response.status_code == 400
    assert "no mean texture there" in response.json()["error"]


def test_a_stroke_is_told_wherever_it_is(rest: httpx.Client) -> None:
    image = np.zeros((4, 4), int)
    image[3, 2:] = 255
    answer = ok(rest.post("/predict/corner4x4-cnn", json=image.flatten().tolist()))
    assert answer["predictions"][0]["label"] == "horizontal"


def test_a_forecast_has_a_series_for_each_column(rest: httpx.Client) -> None:
    past = 10 + np.random.default_rng(0).normal(size=(ett.PAST, len(ett.COLUMNS)))
    headers = {"Content-Type": "text/csv"}
    answer = ok(rest.post("/predict/ett-lstm", content=table(ett.COLUMNS, past), headers=headers))
    [prediction] = answer["predictions"]
    assert list(prediction) == list(ett.COLUMNS)
    assert {len(series) for series in prediction.values()} == {ett.FUTURE}
    by_name = {name: past[:, place].tolist() for place, name in enumerate(ett.COLUMNS)}
    assert ok(rest.post("/predict/ett-lstm", json=by_name)) == answer


def test_a_table_of_too_few_hours_is_refused(rest: httpx.Client) -> None:
    past = np.zeros((95, len(ett.COLUMNS)))
    headers = {"Content-Type": "text/csv"}
    response = rest.post("/predict/ett-lstm", content=table(ett.COLUMNS, past), headers=headers)
    assert response.status_code == 400
    assert "[1,95,7]" in response.json()["error"]


def brightness(content: bytes) -> Array:
    return np.asarray(Image.open(io.BytesIO(content))).astype(float) / 255


def test_a_digit_goes_in_and_comes_out_as_a_picture(rest: httpx.Client) -> None:
    response = rest.post(
        "/predict/mnist-autoencoder",
        content=SEVEN.read_bytes(),
        headers={"Content-Type": "image/png"},
    )
    assert response.headers["Content-Type"] == "image/png"
    given = Image.open(SEVEN).convert("L").resize((28, 28), Image.Resampling.BILINEAR)
    off = brightness(response.content) - np.asarray(given) / 255
    assert np.mean(off**2) < 0.03


def test_the_code_of_a_digit_is_decoded_to_the_same_picture(rest: httpx.Client) -> None:
    headers = {"Content-Type": "image/png", "Accept": "application/json"}
    whole = rest.post("/predict/mnist-autoencoder", content=SEVEN.read_bytes(), headers=headers)
    [prediction] = ok(whole)["predictions"]
    picture = base64.b64decode(prediction["reconstruction"].partition(",")[2])
    decoded = rest.post("/predict/mnist-decoder", json=prediction["latent"])
    np.testing.assert_allclose(brightness(decoded.content), brightness(picture), atol=1.5 / 255)


def test_a_seed_gives_the_same_pictures_however_many_there_are(rest: httpx.Client) -> None:
    few, many = (
        rest.post("/predict/mnist-gan", json={"seed": 7, "pictures": pictures})
        for pictures in (2, 20)
    )
    assert few.headers["Content-Type"] == "image/png"
    assert brightness(few.content).shape == (28, 2 * 28)
    assert brightness(many.content).shape == (2 * 28, 16 * 28)
    np.testing.assert_allclose(
        brightness(few.content), brightness(many.content)[:28, : 2 * 28], atol=1.5 / 255
    )


def test_a_picture_can_be_made_of_given_numbers(rest: httpx.Client) -> None:
    row = np.random.default_rng(7).standard_normal(64).astype(np.float32)
    given = rest.post("/predict/mnist-gan", json=row.tolist())
    drawn = rest.post("/predict/mnist-gan", json={"seed": 7})
    np.testing.assert_allclose(brightness(given.content), brightness(drawn.content), atol=1.5 / 255)


def test_generated_pictures_are_digits_to_the_net_that_reads_them(rest: httpx.Client) -> None:
    pictures = rest.post("/predict/mnist-gan", json={"seed": 0, "pictures": 64})
    rows = np.concatenate(np.split(brightness(pictures.content) * 255, 4), axis=1)
    digits = np.stack(np.split(rows, 64, axis=1))[:, None].round().astype(int)
    answer = ok(rest.post("/predict/mnist-cnn", json=digits.tolist()))
    sure = [each for each in answer["predictions"] if each["probability"] > 0.5]
    assert len(sure) >= 32
    assert len({each["label"] for each in sure}) >= 8


def test_more_pictures_than_a_batch_holds_are_refused(rest: httpx.Client) -> None:
    response = rest.post("/predict/mnist-gan", json={"pictures": 65})
    assert response.status_code == 400
    assert "pictures: expected a whole number from 1 to 64" in response.json()["error"]
