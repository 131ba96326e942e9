"""Texts of shakespeare-gpt, from the real process, by curl's way and by the official clients."""

import asyncio
import json
import queue
import shutil
from collections.abc import Iterator
from contextlib import AsyncExitStack
from typing import Any, Final

import httpx
import numpy as np
import pytest
import tritonclient.grpc

from tests.e2e.server import REPOSITORY, Server, penstock_server

NAME: Final = "shakespeare-gpt"
PATH: Final = f"/v2/models/{NAME}"
ROMEO: Final[dict[str, Any]] = {"text_input": "ROMEO:\n", "seed": 1, "max_tokens": 30}
# Longer than any test: only whoever goes leaves its row.
LONGEST: Final = 1_000_000
ENDLESS: Final = ROMEO | {"max_tokens": LONGEST}


@pytest.fixture(scope="module")
def theatre(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The committed model, with two rows and room for one who waits."""
    folder = tmp_path_factory.mktemp("repository") / NAME
    shutil.copytree(REPOSITORY / NAME, folder)
    config = folder / "config.pbtxt"
    narrow = config.read_text().replace("max_batch_size: 16", "max_batch_size: 2")
    narrow = narrow.replace('"4096"', f'"{LONGEST}"')
    config.write_text(
        f"{narrow}\ndynamic_batching {{ default_queue_policy {{ max_queue_size: 1 }} }}\n"
    )
    with penstock_server(repository=folder.parent) as server:
        yield server


@pytest.fixture
def rest(theatre: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=theatre.url, timeout=60) as client:
        yield client


def generated(client: httpx.Client, request: dict[str, Any]) -> Any:
    answer = client.post(f"{PATH}/generate", json=request)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_generate_gives_the_whole_text_and_why_it_ends(rest: httpx.Client) -> None:
    document = generated(rest, ROMEO)
    assert len(document.pop("text_output")) == 30
    assert document == {
        "model_name": NAME,
        "model_version": "1",
        "finish_reason": "length",
        "completion_tokens": 30,
    }


def test_generate_stream_gives_it_piece_by_piece(rest: httpx.Client) -> None:
    answer = rest.post(f"{PATH}/generate_stream", json=ROMEO)
    events = [json.loads(event[6:]) for event in answer.text.split("\n\n") if event]
    assert len(events) > 1
    text = "".join(event["text_output"] for event in events)
    assert text == generated(rest, ROMEO)["text_output"]
    assert [event.get("finish_reason") for event in events] == [None] * (len(events) - 1) + [
        "length"
    ]


def test_a_stop_text_may_be_given_alone_or_in_a_list(rest: httpx.Client) -> None:
    whole = generated(rest, ROMEO)["text_output"]
    stop = whole[10:13]
    for given in (stop, ["\0", stop]):
        document = generated(rest, ROMEO | {"stop": given})
        assert document["text_output"] == whole[: whole.index(stop)]
        assert document["finish_reason"] == "stop"


def test_the_official_client_streams_it(theatre: Server, rest: httpx.Client) -> None:
    prompt = tritonclient.grpc.InferInput("text_input", [1, 1], "BYTES")
    prompt.set_data_from_numpy(np.array([[ROMEO["text_input"].encode()]], dtype=object))
    answers: queue.Queue[tuple[Any, Any]] = queue.Queue()
    with tritonclient.grpc.InferenceServerClient(theatre.grpc) as client:
        client.start_stream(lambda result, error: answers.put((result, error)))
        client.async_stream_infer(NAME, [prompt], parameters={"seed": 1, "max_tokens": 30})
        client.async_stream_infer(NAME, [prompt], parameters={"top_k": 0})
        client.stop_stream()
    found = list(answers.queue)
    pieces = [result for result, error in found if error is None]
    [refused] = [error for _, error in found if error is not None]
    text = b"".join(piece.as_numpy("text_output").item() for piece in pieces).decode()
    assert text == generated(rest, ROMEO)["text_output"]
    last = pieces[-1].get_response().parameters
    assert last["finish_reason"].string_param == "length"
    assert "'top_k' must be a whole number of 1 or more, got 0" in refused.message()


@pytest.mark.parametrize("method", ["generate", "generate_stream"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"temperature": -1}, "'temperature' must be a number of 0 or more, got -1"),
        ({"text_input": "Ὅμηρος"}, "text_input: character 0 is 'Ὅ', which the model does not know"),
        ({"text_input": "a" * 129}, "text_input: expected 1 to 128 characters"),
        ({"text_input": ["a", "b"]}, "a request is for one text, got 2"),
        ({"best_of": 2}, "unknown parameter 'best_of'"),
    ],
)
def test_what_cannot_be_meant_is_a_400(
    rest: httpx.Client, method: str, change: dict[str, Any], message: str
) -> None:
    answer = rest.post(f"{PATH}/{method}", json=ROMEO | change)
    assert answer.status_code == 400
    assert message in answer.json()["error"]


async def test_who_hangs_up_leaves_the_row_to_who_waits(theatre: Server) -> None:
    async with httpx.AsyncClient(base_url=theatre.url, timeout=120) as client:
        readers = []  # who drops one hangs up
        async with AsyncExitStack() as streams:
            for _ in range(2):
                stream = client.stream("POST", f"{PATH}/generate_stream", json=ENDLESS)
                answer = await streams.enter_async_context(stream)
                readers.append(answer.aiter_lines())  # it has its row once there is a line
                await anext(readers[-1])
            before = await steps(client)
            both = [asyncio.create_task(client.post(f"{PATH}/generate", json=ROMEO)) for _ in "12"]
            done, waiting = await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            [full] = done
            assert full.result().status_code == 429
            assert "Exceeds maximum queue size of 1 requests" in full.result().text
        [waited] = waiting
        assert (await waited).json()["completion_tokens"] == 30
        assert await steps(client) - before < LONGEST / 2


async def steps(client: httpx.AsyncClient) -> int:
    [statistics] = (await client.get(f"{PATH}/stats")).json()["model_stats"]
    return int(statistics["execution_count"])
