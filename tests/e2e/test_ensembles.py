"""Ensembles and the response cache, as clients of either protocol meet them."""

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import tritonclient.grpc
from tritonclient.utils import InferenceServerException

from tests.e2e.clients import CLIENTS, Client, connect, tensor
from tests.e2e.repositories import add_identity
from tests.e2e.scrape import scrape
from tests.e2e.server import Server, failed_start, penstock_server
from tests.ensemble_repository import CACHED, ENSEMBLES, REFUSED, build, linear
from tests.ensembles import ensemble, step

ROWS = np.arange(8, dtype=np.float32).reshape(2, 4)
CACHE = "--cache-config=local,size=1048576"
EXPLICIT = "--model-control-mode=explicit"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    repository = build(tmp_path_factory.mktemp("repository"), ENSEMBLES)
    with penstock_server(CACHE, repository=repository) as running:
        yield running


@pytest.fixture(params=CLIENTS)
async def client(request: pytest.FixtureRequest, server: Server) -> AsyncIterator[Client]:
    """Each of the official clients in turn."""
    async with connect(request.param, server) as connected:
        yield connected


async def test_every_client_can_ask_an_ensemble(client: Client) -> None:
    result = await client.infer("nested", {"in": ROWS}, request_id="7")

    assert result.as_numpy("out").tolist() == (2 * (2 * ROWS + 1)).tolist()
    assert await client.call("is_model_ready", "nested", "1")


async def test_every_client_sees_what_an_ensemble_is(client: Client) -> None:
    metadata = await client.call("get_model_metadata", "chain")

    assert metadata["platform"] == "ensemble"
    assert metadata["versions"] == ["1"]
    assert metadata["inputs"] == [{"name": "in", "datatype": "FP32", "shape": [-1, 4]}]


async def test_every_client_is_told_which_step_failed(client: Client) -> None:
    with pytest.raises(
        InferenceServerException, match="in ensemble 'failing_step', step 0 of model 'failing': "
    ):
        await client.infer("failing_step", {"in": np.array([9], np.int64)})


async def test_classes_bear_the_labels_of_the_model_that_computes_them(client: Client) -> None:
    result = await client.infer("labelled", {"in": ROWS}, ["out"], classes=1)

    assert result.as_numpy("out").tolist() == [[b"6.000000:3:dog"], [b"14.000000:3:dog"]]


def test_an_answer_over_rest_is_what_triton_says(server: Server) -> None:
    request = {
        "id": "7",
        "inputs": [{"name": "in", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}],
        "outputs": [{"name": "out"}],
    }

    answer = httpx.post(f"{server.url}/v2/models/chain/infer", json=request).json()

    assert answer == {
        "id": "7",
        "model_name": "chain",
        "model_version": "1",
        "parameters": {"sequence_id": 0, "sequence_start": False, "sequence_end": False},
        "outputs": [{"name": "out", "datatype": "FP32", "shape": [1, 4], "data": [3, 5, 7, 9]}],
    }


async def test_an_answer_is_remembered_across_protocols_and_counted(server: Server) -> None:
    array = np.full((3, 4), 17, np.float32)
    before = scrape(server)
    answers = []
    for name in CLIENTS:
        async with connect(name, server) as connected:
            answers.append(await connected.infer("remembering", {"x": array}))
    after = scrape(server)

    for answer in answers:
        assert answer.as_numpy("y").tolist() == (2 * array).tolist()

    def grown(metric: str) -> float:
        labels = {"model": "remembering", "version": "1"}
        return after.value(metric, **labels) - before.value(metric, **labels)

    assert grown("nv_cache_num_hits_per_model") == len(CLIENTS) - 1
    assert grown("nv_cache_num_misses_per_model") == 1
    assert grown("nv_inference_request_success") == len(CLIENTS)
    assert grown("nv_inference_exec_count") == 1
    assert grown("nv_inference_count") == 3
    assert after.value("nv_cache_num_hits") - before.value("nv_cache_num_hits") == 3
    assert 0 < after.value("nv_cache_util") < 1
    assert {
        sample.labels["model"] for sample in after.families["nv_cache_num_hits_per_model"].samples
    } == {"remembering", "cached"}


async def test_without_a_cache_the_log_says_so_and_the_series_stay_at_nothing(
    tmp_path: Path,
) -> None:
    linear(tmp_path / "remembering", more=CACHED)
    with penstock_server(repository=tmp_path) as server:
        server.wait_for("remembering version 1 asks for a response cache and the server has none")
        async with connect("grpc", server) as client:
            for _ in range(2):
                await client.infer("remembering", {"x": ROWS})
        labels = {"model": "remembering", "version": "1"}
        found = scrape(server)
        assert found.value("nv_inference_exec_count", **labels) == 2
        assert found.value("nv_cache_num_hits_per_model", **labels) == 0
        assert found.value("nv_cache_num_misses_per_model", **labels) == 0


async def test_a_reload_forgets_what_a_model_and_its_ensembles_have_answered(
    tmp_path: Path,
) -> None:
    linear(tmp_path / "remembering", more=CACHED)
    (tmp_path / "over/1").mkdir(parents=True)
    text = ensemble(
        step("remembering", "x=in", "y=out"),
        head='platform: "ensemble" max_batch_size: 8',
        tail=CACHED,
    )
    (tmp_path / "over/config.pbtxt").write_text(text)
    with penstock_server(EXPLICIT, "--load-model=over", CACHE, repository=tmp_path) as server:
        async with connect("grpc", server) as client:

            async def answers() -> list[list[list[float]]]:
                results = [
                    (await client.infer("remembering", {"x": ROWS})).as_numpy("y"),
                    (await client.infer("over", {"in": ROWS})).as_numpy("out"),
                ]
                return [result.tolist() for result in results]

            for _ in range(2):
                assert await answers() == 2 * [(2 * ROWS).tolist()]
            linear(tmp_path / "new", 5, more=CACHED)
            (tmp_path / "new/1/model.onnx").replace(tmp_path / "remembering/1/model.onnx")
            await client.call("load_model", "remembering")
            assert await answers() == 2 * [(5 * ROWS).tolist()]


async def test_no_request_is_lost_while_the_model_of_a_step_changes(tmp_path: Path) -> None:
    build(tmp_path, {"chain": ENSEMBLES["chain"]})
    linear(tmp_path / "other", 5)
    models = [(tmp_path / name / "1/model.onnx").read_bytes() for name in ("other", "scale")]
    expected = [(factor * ROWS + 1).tolist() for factor in (2, 5)]
    seen = []
    with penstock_server(EXPLICIT, "--load-model=chain", repository=tmp_path) as server:
        async with connect("grpc.aio", server) as client:
            changing = True

            async def keep_asking() -> None:
                while changing:
                    result = await client.infer("chain", {"in": ROWS})
                    seen.append(result.as_numpy("out").tolist())

            asking = [asyncio.create_task(keep_asking()) for _ in range(8)]
            for change in range(20):
                new = tmp_path / "new.onnx"
                new.write_bytes(models[change % 2])
                new.replace(tmp_path / "scale/1/model.onnx")
                await client.call("load_model", "scale")
            changing = False
            await asyncio.gather(*asking)

    assert all(answer in expected for answer in seen)
    assert all(answer in seen for answer in expected)


@pytest.fixture
def slow_steps(tmp_path: Path) -> Path:
    """An ensemble of two steps that take their time."""
    for name, delay_ms in (("first", 800), ("second", 200)):
        add_identity(tmp_path, name, delay_ms=delay_ms)
    (tmp_path / "both/1").mkdir(parents=True)
    dims = "data_type: TYPE_FP32 dims: 1 }\n"
    text = ensemble(
        step("first", "x=x", "y=mid"),
        step("second", "x=mid", "y=y"),
        head='platform: "ensemble" max_batch_size: 1',
        tensors=f'input {{ name: "x" {dims}output {{ name: "y" {dims}',
    )
    (tmp_path / "both/config.pbtxt").write_text(text)
    return tmp_path


def ask(server: Server, **options: Any) -> Any:
    """What the ensemble of slow steps answers to a number; blocks until then."""
    with tritonclient.grpc.InferenceServerClient(server.grpc) as client:
        item = tensor(tritonclient.grpc, "x", np.array([[5]], np.float32))
        return client.infer("both", [item], **options).as_numpy("y").tolist()


def counted(server: Server, metric: str, model: str, **labels: str) -> float:
    return scrape(server).value(metric, model=model, version="1", **labels)


def test_a_caller_that_gives_up_stops_the_steps_that_have_not_run(slow_steps: Path) -> None:
    with penstock_server(repository=slow_steps) as server:
        # Where the machine is slow, time may be up before the request has reached the server.
        while not counted(server, "nv_inference_request_failure", "both", reason="CANCELED"):
            with pytest.raises(InferenceServerException, match="Deadline Exceeded"):
                ask(server, client_timeout=0.2)
            assert not counted(server, "nv_inference_exec_count", "second")
        # What was under way when its caller left comes to its end, and to nothing more.
        assert server.stop() == 0
        log = str(server)
    assert "Traceback" not in log


def test_an_accepted_request_goes_through_all_steps_while_the_server_stops(
    slow_steps: Path,
) -> None:
    with penstock_server(repository=slow_steps) as server, ThreadPoolExecutor(1) as pool:
        asked = pool.submit(ask, server)
        # Its first step has run, and its second begins.
        while not counted(server, "nv_inference_exec_count", "first"):
            pass
        server.send(signal.SIGTERM)
        assert asked.result() == [[5]]
        assert server.wait() == 0


def test_an_ensemble_that_does_not_fit_its_models_stops_the_start_with_its_place(
    tmp_path: Path,
) -> None:
    build(tmp_path, {"wrong_shape": REFUSED["wrong_shape"]})

    said = failed_start(repository=tmp_path)

    assert f"{tmp_path}/wrong_shape/config.pbtxt:5: in ensemble wrong_shape" in said
    assert "inconsistent shape: [-1,3] is inferred from model wrong_shape" in said


async def test_without_exit_on_error_the_rest_is_served(tmp_path: Path) -> None:
    build(tmp_path, {name: ENSEMBLES[name] for name in ("chain",)} | dict(REFUSED))

    with penstock_server("--exit-on-error=false", repository=tmp_path) as server:
        async with connect("grpc", server) as client:
            result = await client.infer("chain", {"in": ROWS})
            index = await client.call("get_model_repository_index")

    assert result.as_numpy("out").tolist() == (2 * ROWS + 1).tolist()
    states = {one["name"]: one["state"] for one in index["models"]}
    assert states["chain"] == "READY"
    assert {states[name] for name in REFUSED} == {"UNAVAILABLE"}
