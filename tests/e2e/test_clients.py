"""What a program written for Triton does with us: each test runs with all four official clients."""

import queue
from typing import Any

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http

from serving import __version__
from serving.types import Array
from tests.e2e.clients import Client, assert_close, tensor
from tests.e2e.conftest import Reference
from tests.e2e.server import REPOSITORY, Server
from training.data.dataset import Dataset

MODELS = sorted(path.name for path in REPOSITORY.iterdir())


@pytest.fixture(scope="module")
def rows(digits: Dataset) -> Array:
    """Five examples of digits-mlp."""
    return digits.test_x[:5]


async def test_the_server_is_live_and_ready(client: Client) -> None:
    assert await client.call("is_server_live") is True
    assert await client.call("is_server_ready") is True


@pytest.mark.parametrize("model", MODELS)
async def test_every_model_is_ready(client: Client, model: str) -> None:
    assert await client.call("is_model_ready", model) is True
    assert await client.call("is_model_ready", model, "1") is True


async def test_an_unknown_model_or_version_is_not_ready(client: Client) -> None:
    assert await client.call("is_model_ready", "nobody") is False
    assert await client.call("is_model_ready", "digits-mlp", "7") is False


async def test_the_server_says_what_it_is(client: Client) -> None:
    metadata = await client.call("get_server_metadata")
    assert metadata["name"] == "penstock"
    assert metadata["version"] == __version__
    assert {"binary_tensor_data", "sequence", "statistics"} <= set(metadata["extensions"])


@pytest.mark.parametrize("version", ["", "1"])
async def test_a_model_says_what_it_takes_and_gives(client: Client, version: str) -> None:
    metadata = await client.call("get_model_metadata", "mnist-cnn", version)
    scores = {"datatype": "FP32", "shape": [-1, 10]}
    assert metadata == {
        "name": "mnist-cnn",
        "versions": ["1"],
        "platform": "onnxruntime_onnx",
        "inputs": [{"name": "image", "datatype": "UINT8", "shape": [-1, 1, 28, 28]}],
        "outputs": [{"name": "logits"} | scores, {"name": "probabilities"} | scores],
    }


async def test_the_configuration_in_force_can_be_read(client: Client) -> None:
    answer = await client.call("get_model_config", "digits-mlp", "1")
    config = answer["config"] if client.is_grpc else answer
    assert config["name"] == "digits-mlp"
    assert config["backend"] == "onnxruntime"
    assert config["max_batch_size"] == 64
    assert config["dynamic_batching"]["preferred_batch_size"] == [16, 32]
    assert config["dynamic_batching"]["max_queue_delay_microseconds"] == 0
    # Filled in: the file says nothing of it.
    assert config["version_policy"] == {"latest": {"num_versions": 1}}
    assert config["instance_group"][0]["count"] == 1


async def test_the_index_lists_every_model(client: Client) -> None:
    answer = await client.call("get_model_repository_index")
    entries = answer["models"] if client.is_grpc else answer
    assert [(entry["name"], entry["state"]) for entry in entries] == [
        (model, "READY") for model in MODELS
    ]


async def test_statistics_count_requests_and_rows(client: Client, rows: Array) -> None:
    before = await statistics_of(client, "mnist-mlp")
    for count in (1, 4):
        await client.infer("mnist-mlp", {"image": np.zeros((count, 1, 28, 28), np.uint8)})
    after = await statistics_of(client, "mnist-mlp")
    assert after["inference_count"] - before["inference_count"] == 5
    assert after["execution_count"] - before["execution_count"] == 2
    success = [each["inference_stats"]["success"] for each in (before, after)]
    assert success[1]["count"] - success[0]["count"] == 2
    assert success[1]["ns"] > success[0]["ns"]
    assert after["last_inference"] >= before["last_inference"]


async def statistics_of(client: Client, model: str) -> Any:
    [statistics] = (await client.call("get_inference_statistics", model))["model_stats"]
    return statistics


async def test_statistics_of_all_models_come_at_once(client: Client) -> None:
    answer = await client.call("get_inference_statistics")
    assert [one["name"] for one in answer["model_stats"]] == MODELS


async def test_answers_are_those_of_the_runtime(
    client: Client, rows: Array, reference: Reference
) -> None:
    result = await client.infer("digits-mlp", {"features": rows})
    for name, expected in reference("digits-mlp", rows).items():
        assert_close(result.as_numpy(name), expected)


async def test_pixels_give_the_runtimes_answers_too(
    client: Client, mnist: Dataset, reference: Reference
) -> None:
    images = mnist.test_x[:3]
    result = await client.infer("mnist-cnn", {"image": images})
    for name, expected in reference("mnist-cnn", images).items():
        assert_close(result.as_numpy(name), expected)


async def test_a_version_can_be_named(client: Client, rows: Array) -> None:
    result = await client.infer("digits-mlp", {"features": rows}, model_version="1")
    assert response(client, result)["model_version"] == "1"


async def test_the_id_comes_back(client: Client, rows: Array) -> None:
    result = await client.infer("digits-mlp", {"features": rows}, request_id="né 7")
    assert response(client, result)["id"] == "né 7"


async def test_only_the_outputs_asked_for_come_back_in_the_order_asked_for(
    client: Client, rows: Array
) -> None:
    for names in (["probabilities"], ["probabilities", "logits"]):
        result = await client.infer("digits-mlp", {"features": rows}, outputs=names)
        assert [output["name"] for output in response(client, result)["outputs"]] == names


async def test_classification_gives_the_best_classes_with_their_labels(
    client: Client, rows: Array, reference: Reference
) -> None:
    result = await client.infer(
        "digits-mlp", {"features": rows}, outputs=["probabilities"], classes=3
    )
    classes = result.as_numpy("probabilities")
    scores = reference("digits-mlp", rows)["probabilities"]
    assert classes.shape == (5, 3)
    for row, best in zip(scores, classes, strict=True):
        found = [text.decode().split(":") for text in best]
        assert [int(index) for _, index, _ in found] == np.argsort(-row)[:3].tolist()
        assert [label for _, _, label in found] == [index for _, index, _ in found]
        np.testing.assert_allclose(
            [float(value) for value, _, _ in found], np.sort(row)[:-4:-1], atol=1e-5
        )


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
async def test_a_packed_request_is_understood(
    client: Client, rows: Array, reference: Reference, algorithm: str
) -> None:
    name = "compression_algorithm" if client.is_grpc else "request_compression_algorithm"
    option: dict[str, Any] = {name: algorithm}
    result = await client.infer("digits-mlp", {"features": rows}, **option)
    expected = reference("digits-mlp", rows)["logits"]
    assert_close(result.as_numpy("logits"), expected)


def response(client: Client, result: Any) -> Any:
    if not client.is_grpc:
        return result.get_response()
    return result.get_response(as_json=True)


@pytest.mark.parametrize("binary_input", [False, True])
@pytest.mark.parametrize("binary_output", [False, True])
def test_json_and_binary_data_mix_in_both_directions(
    server: Server, rows: Array, reference: Reference, binary_input: bool, binary_output: bool
) -> None:
    with tritonclient.http.InferenceServerClient(server.http) as client:
        result = client.infer(
            "digits-mlp",
            [tensor(tritonclient.http, "features", rows, binary_data=binary_input)],
            outputs=[tritonclient.http.InferRequestedOutput("logits", binary_data=binary_output)],
        )
    assert ("data" in result.get_output("logits")) is not binary_output
    expected = reference("digits-mlp", rows)["logits"]
    assert_close(result.as_numpy("logits"), expected)


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
@pytest.mark.parametrize("binary", [False, True])
def test_a_large_answer_is_packed_where_the_client_asks_for_it(
    server: Server, reference: Reference, algorithm: str, binary: bool
) -> None:
    many = np.zeros((64, 64), np.float32)
    with tritonclient.http.InferenceServerClient(server.http) as client:
        result = client.infer(
            "digits-mlp",
            [tensor(tritonclient.http, "features", many)],
            outputs=[tritonclient.http.InferRequestedOutput("logits", binary_data=binary)],
            response_compression_algorithm=algorithm,
        )
    expected = reference("digits-mlp", many)["logits"]
    assert_close(result.as_numpy("logits"), expected)


def test_many_requests_run_beside_each_other_over_http(
    server: Server, digits: Dataset, reference: Reference
) -> None:
    parts = np.array_split(digits.test_x[:120], 40)
    with tritonclient.http.InferenceServerClient(server.http, concurrency=8) as client:
        running = [
            client.async_infer("digits-mlp", [tensor(tritonclient.http, "features", part)])
            for part in parts
        ]
        answers = [request.get_result().as_numpy("logits") for request in running]
    expected = reference("digits-mlp", digits.test_x[:120])["logits"]
    assert_close(np.concatenate(answers), expected)


def test_many_requests_run_beside_each_other_over_grpc(
    server: Server, digits: Dataset, reference: Reference
) -> None:
    parts = np.array_split(digits.test_x[:120], 40)
    answers: queue.Queue[tuple[int, Any, Any]] = queue.Queue()
    with tritonclient.grpc.InferenceServerClient(server.grpc) as client:
        for index, part in enumerate(parts):
            client.async_infer(
                "digits-mlp",
                [tensor(tritonclient.grpc, "features", part)],
                lambda result, error, index=index: answers.put((index, result, error)),
            )
        found = {}
        for _ in parts:
            index, result, error = answers.get(timeout=60)
            assert error is None
            found[index] = result.as_numpy("logits")
    expected = reference("digits-mlp", digits.test_x[:120])["logits"]
    assert_close(np.concatenate([found[index] for index in range(len(parts))]), expected)
