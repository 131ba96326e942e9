"""A translator over a real server: German in, English out, whoever shares the batch."""

import asyncio
from typing import Any, Final

import httpx
import numpy as np
import pytest
from tokenizers import Tokenizer

from tests.e2e.server import REPOSITORY, Server

MODEL: Final = "multi30k-transformer"
PATH: Final = f"/predict/{MODEL}"
TEXTS: Final = (
    "Ein Hund.",
    "Zwei Hunde spielen im Schnee.",
    "Ein Mann mit einem orangefarbenen Hut, der etwas anstarrt.",
    "Ein kleines Mädchen in einem roten Kleid klettert auf einem Spielplatz eine Leiter hinauf.",
)


def ok(response: httpx.Response) -> Any:
    assert response.status_code == 200, response.text
    return response.json()


def translated(rest: httpx.Client, body: Any, **params: int) -> list[str]:
    answers = ok(rest.post(PATH, json=body, params=params))["predictions"]
    return [each["translation"] for each in answers]


def test_german_goes_in_and_english_comes_out(rest: httpx.Client) -> None:
    answer = ok(rest.post(PATH, json={"text": TEXTS[1]}))
    assert (answer["model"], answer["version"]) == (MODEL, "1")
    [prediction] = answer["predictions"]
    assert prediction["translation"] == "Two dogs are playing in the snow."
    assert -1 < prediction["score"] < 0
    plain = rest.post(PATH, content=TEXTS[1], headers={"Content-Type": "text/plain"})
    assert ok(plain) == answer


def test_beams_find_nothing_worse_than_greed(rest: httpx.Client) -> None:
    greedy, wide = (
        [
            each["score"]
            for each in ok(rest.post(PATH, json=TEXTS, params={"beams": beams}))["predictions"]
        ]
        for beams in (1, 8)
    )
    assert sum(wide) >= sum(greedy)


def test_neighbours_in_a_request_change_no_translation(rest: httpx.Client) -> None:
    alone = [translated(rest, {"text": text})[0] for text in TEXTS]
    assert translated(rest, TEXTS) == alone
    assert translated(rest, TEXTS[::-1]) == alone[::-1]


async def test_texts_of_strangers_with_other_beams_change_no_translation(
    server: Server, rest: httpx.Client
) -> None:
    asked = [(text, beams) for text in TEXTS for beams in (1, 2, 4)] * 3
    alone = {case: translated(rest, {"text": case[0]}, beams=case[1]) for case in asked[:12]}
    async with httpx.AsyncClient(base_url=server.url, timeout=60) as client:
        answers = await asyncio.gather(
            *(client.post(PATH, json={"text": text}, params={"beams": n}) for text, n in asked)
        )
    for case, answer in zip(asked, answers, strict=True):
        [prediction] = ok(answer)["predictions"]
        assert [prediction["translation"]] == alone[case]


def test_the_tensor_endpoint_takes_and_gives_numbers_of_tokens(rest: httpx.Client) -> None:
    tokenizer = Tokenizer.from_file(str(REPOSITORY / MODEL / "1" / "tokenizer.json"))
    ids = tokenizer.encode(TEXTS[1]).ids
    padded = np.array([[*ids, 7, 7, 7]])
    mask = np.arange(padded.shape[1])[None] < len(ids)
    inputs = {"input_ids": padded, "attention_mask": mask.astype(int), "beams": np.array([[4]])}
    body = {
        "inputs": [
            {"name": name, "datatype": "INT64", "shape": each.shape, "data": each.tolist()}
            for name, each in inputs.items()
        ]
    }
    answer = ok(rest.post(f"/v2/models/{MODEL}/infer", json=body))
    outputs = {each["name"]: each for each in answer["outputs"]}
    assert outputs["output_ids"]["shape"] == [1, 64]
    written = tokenizer.decode(outputs["output_ids"]["data"])
    assert [written] == translated(rest, {"text": TEXTS[1]})


@pytest.mark.parametrize("beams", ["0", "9", "many"])
def test_a_number_of_beams_out_of_range_is_refused(rest: httpx.Client, beams: str) -> None:
    response = rest.post(PATH, json={"text": TEXTS[0]}, params={"beams": beams})
    assert response.status_code == 400
    assert response.json()["error"].startswith("query.beams: ")


def test_letters_of_other_scripts_fail_nobody(rest: httpx.Client) -> None:
    strange, plain = translated(rest, ["日本語 🙂 Żółw", TEXTS[1]])
    assert isinstance(strange, str)
    assert plain == "Two dogs are playing in the snow."
