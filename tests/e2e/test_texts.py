"""Models of texts over a real server: words in, labels out, whoever shares the batch."""

import asyncio
import json
from collections.abc import Sequence
from typing import Any, Final

import httpx
import numpy as np
import pytest
from tokenizers import Tokenizer

from serving.types import Array
from tests.e2e.server import REPOSITORY, Server

MODEL: Final = "sst2-lstm"
PATH: Final = f"/predict/{MODEL}"
TEXTS: Final = (
    "dull",
    "a charming and funny film , and one of the best of the year",
    "an utter waste of two hours",
    "I don't think that I have ever seen anything so moving, so well acted and so beautiful.",
    "It's a mess" + " of the very worst kind" * 20,
    "good fun",
)


def ok(response: httpx.Response) -> Any:
    assert response.status_code == 200, response.text
    return response.json()


def positive(prediction: Any) -> float:
    """The probability of the label that the texts are tested for."""
    by_label = {each["label"]: each["probability"] for each in prediction["classes"]}
    assert by_label.keys() == {"negative", "positive"}
    return float(by_label["positive"])


def predicted(rest: httpx.Client, body: Any) -> list[float]:
    return [positive(each) for each in ok(rest.post(PATH, json=body))["predictions"]]


def infer(rest: httpx.Client, ids: Array, mask: Array) -> Array:
    """The probabilities (B, 2) from the tensor endpoint."""
    inputs = [
        {"name": name, "datatype": "INT64", "shape": array.shape, "data": array.tolist()}
        for name, array in (("input_ids", ids), ("attention_mask", mask))
    ]
    outputs = [{"name": "probabilities"}]
    body = {"inputs": inputs, "outputs": outputs}
    answer = ok(rest.post(f"/v2/models/{MODEL}/infer", json=body))
    return np.array(answer["outputs"][0]["data"]).reshape(-1, 2)


def numbers(texts: Sequence[str], length: int) -> tuple[Array, Array]:
    """What the version's own tokeniser makes of them, padded to `length`."""
    tokenizer = Tokenizer.from_file(str(REPOSITORY / MODEL / "1" / "tokenizer.json"))
    tokenizer.enable_padding(length=length)
    encoded = tokenizer.encode_batch(list(texts))
    return np.array([e.ids for e in encoded]), np.array([e.attention_mask for e in encoded])


def test_words_go_in_and_a_label_comes_out(rest: httpx.Client) -> None:
    answer = ok(rest.post(PATH, json={"text": TEXTS[1]}))
    assert (answer["model"], answer["version"]) == (MODEL, "1")
    [prediction] = answer["predictions"]
    assert prediction["label"] == "positive"
    assert prediction["probability"] == positive(prediction) > 0.9


def test_a_list_of_texts_has_a_prediction_each_in_its_order(rest: httpx.Client) -> None:
    answers = ok(rest.post(PATH, json={"text": TEXTS}))["predictions"]
    assert [each["label"] for each in answers] == ["negative", "positive"] * 3


def test_plain_text_gives_what_json_gives(rest: httpx.Client) -> None:
    plain = rest.post(PATH, content=TEXTS[3], headers={"Content-Type": "text/plain"})
    assert ok(plain) == ok(rest.post(PATH, json={"text": TEXTS[3]}))


def test_files_of_a_form_are_a_text_each(rest: httpx.Client) -> None:
    files = [("file", (f"{place}.txt", text)) for place, text in enumerate(TEXTS[:3])]
    answer = ok(rest.post(PATH, files=files))
    assert [positive(each) for each in answer["predictions"]] == predicted(rest, TEXTS[:3])

    refused = rest.post(PATH, files={"file": ("latin.txt", b"caf\xe9")})
    assert (refused.status_code, refused.json()["error"]) == (
        400,
        "file 'latin.txt': byte 3 is not UTF-8",
    )


@pytest.mark.parametrize("charset", ["UTF-16", "iso-8859-1", "no such"])
def test_a_text_that_says_it_is_not_utf_8_is_refused(rest: httpx.Client, charset: str) -> None:
    kind = f'text/plain; charset="{charset}"'
    said = f"its charset is '{charset.lower()}'; texts are taken as UTF-8"
    plain = rest.post(PATH, content=b"good", headers={"Content-Type": kind})
    assert (plain.status_code, plain.json()["error"]) == (400, f"body: {said}")
    part = rest.post(PATH, files={"file": ("text.txt", b"good", kind)})
    assert (part.status_code, part.json()["error"]) == (400, f"file 'text.txt': {said}")


def test_neighbours_in_a_request_change_no_answer(rest: httpx.Client) -> None:
    alone = [predicted(rest, {"text": text})[0] for text in TEXTS]
    assert predicted(rest, TEXTS) == pytest.approx(alone, abs=1e-6)
    assert predicted(rest, TEXTS[::-1]) == pytest.approx(alone[::-1], abs=1e-6)


async def test_texts_of_like_length_share_batches_and_change_no_answer(
    server: Server, rest: httpx.Client
) -> None:
    alone = {text: predicted(rest, {"text": text})[0] for text in TEXTS}

    def executions() -> int:
        [stats] = ok(rest.get(f"/v2/models/{MODEL}/stats"))["model_stats"]
        return int(stats["execution_count"])

    before, texts = executions(), TEXTS * 20
    async with httpx.AsyncClient(base_url=server.url, timeout=60) as client:
        answers = await asyncio.gather(*(client.post(PATH, json={"text": t}) for t in texts))
    for text, answer in zip(texts, answers, strict=True):
        [prediction] = ok(answer)["predictions"]
        assert positive(prediction) == pytest.approx(alone[text], abs=1e-6)
    assert executions() - before < len(texts)


def test_the_tensor_endpoint_answers_alike_whatever_the_padding(rest: httpx.Client) -> None:
    wanted = [[1 - one, one] for one in predicted(rest, TEXTS)]
    for length in (64, 71, 200):
        np.testing.assert_allclose(infer(rest, *numbers(TEXTS, length)), wanted, atol=1e-6)


def test_numbers_of_no_token_fail_nobody(rest: httpx.Client) -> None:
    ids = np.array([[2**62, -1, 10**6], [5, 6, 7]])
    answers = infer(rest, ids, np.ones_like(ids))
    np.testing.assert_allclose(answers[1], infer(rest, ids[1:], np.ones((1, 3), int))[0], atol=1e-6)
    unknown = infer(rest, np.ones((1, 3), int), np.ones((1, 3), int))
    np.testing.assert_allclose(answers[0], unknown[0], atol=1e-6)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ({"text": ""}, "text 0 holds no word"),
        ({"text": ["fine", " "]}, "text 1 holds no word"),
        ({"text": 7}, "text: expected a text or a list of texts"),
        ({"words": "fine"}, 'expected an object such as {"text": "..."}'),
        ({"text": ["fine"] * 65}, "batch-size must be <= 64"),
    ],
)
def test_what_cannot_be_read_is_refused_by_name(
    rest: httpx.Client, body: Any, message: str
) -> None:
    response = rest.post(PATH, json=body)
    assert response.status_code == 400
    assert message in response.json()["error"]


def test_news_are_told_apart_by_their_topic(rest: httpx.Client) -> None:
    news = {
        "World": "The president met foreign ministers for talks on peace after the attack",
        "Sports": "The champions won the final by three goals to one in extra time",
        "Business": "Oil prices fall as OPEC raises its output, shares of airlines gain",
        "Sci/Tech": "A new version of the browser fixes holes in the security of Windows",
    }
    answers = ok(rest.post("/predict/agnews-transformer", json={"text": list(news.values())}))
    assert [each["label"] for each in answers["predictions"]] == list(news)


@pytest.mark.parametrize("model", ["imdb-lstm", "imdb-transformer"])
def test_of_a_whole_review_the_end_counts(rest: httpx.Client, model: str) -> None:
    middle = "He opens the door and walks along the street. " * 60
    ends = (
        "A wonderful film, beautifully acted and deeply moving: one of the best of the year.",
        "What a waste of time: badly acted, boring, and one of the worst films ever made.",
    )
    answers = ok(rest.post(f"/predict/{model}", json=[middle + end for end in ends]))
    good, bad = map(positive, answers["predictions"])
    assert good > 0.5 > bad


def test_a_model_of_pictures_takes_no_text(rest: httpx.Client) -> None:
    assert rest.post("/predict/mnist-cnn", json={"text": "seven"}).status_code == 400


def test_the_passport_vouches_for_the_tokeniser(rest: httpx.Client) -> None:
    passport = ok(rest.get(f"/v2/models/{MODEL}/passport"))
    assert passport["files"].keys() == {"model.onnx", "tokenizer.json"}
    tokenizer = json.loads((REPOSITORY / MODEL / "1" / "tokenizer.json").read_text("utf-8"))
    assert tokenizer["truncation"]["max_length"] == 64
