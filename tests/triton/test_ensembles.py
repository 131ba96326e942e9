"""One repository of ensembles, served by a real Triton and by us: answers, counts and refusals."""

import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
import numpy as np
import pytest
import tritonclient.grpc as grpcclient
from prometheus_client.parser import text_string_to_metric_families
from tritonclient.utils import InferenceServerException, np_to_triton_dtype

from serving.types import Array
from tests.e2e.server import penstock_server
from tests.ensemble_repository import ENSEMBLES, MISCONFIGURED, REFUSED, build
from tests.triton.server import installation, triton_server

CACHE: Final = "--cache-config=local,size=1048576"
EXPLICIT: Final = "--model-control-mode=explicit"

ROWS: Final = np.arange(8, dtype=np.float32).reshape(2, 4)
ROW: Final = ROWS[1:]
SECONDS: Final = 30


@dataclass(frozen=True, slots=True)
class Servers:
    """A client of each, and where Triton writes what it tells nobody else."""

    triton: Any
    ours: Any
    log: Path
    rest: Sequence[str]
    metrics: Sequence[str]


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    repository = build(
        tmp_path_factory.mktemp("repository"), {**ENSEMBLES, **REFUSED, **MISCONFIGURED}
    )
    loads = [f"--load-model={name}" for name in ENSEMBLES]
    caches = f"--cache-directory={installation().triton / 'caches'}"
    with (
        triton_server(repository, EXPLICIT, CACHE, caches, *loads) as triton,
        penstock_server(
            EXPLICIT, "--triton-status-codes", CACHE, *loads, repository=repository
        ) as ours,
        grpcclient.InferenceServerClient(triton.grpc) as their_client,
        grpcclient.InferenceServerClient(ours.grpc) as our_client,
    ):
        yield Servers(
            their_client,
            our_client,
            triton.log,
            (triton.http, ours.http),
            (triton.metrics, ours.metrics),
        )


@dataclass(frozen=True, slots=True)
class Question:
    """One request; `array` is the input `in`."""

    model: str
    array: Array
    outputs: Sequence[str] = ()
    classes: int = 0
    options: Mapping[str, Any] = field(default_factory=dict)


def text(*rows: str) -> Array:
    return np.array([[row.encode()] for row in rows], object)


ANSWERED: Final = {
    "a chain": Question("chain", ROWS),
    "an ensemble of an ensemble": Question("nested", ROWS),
    "all outputs": Question("fork", ROWS),
    "one output": Question("fork", ROWS, ["added"]),
    "outputs in another order": Question("fork", ROWS, ["added", "scaled"]),
    "a full batch": Question("chain", np.ones((8, 4), np.float32)),
    "a batch that only the steps know of": Question("flat_over_rows", ROWS),
    "no batch over steps that batch": Question("flat_over_one", ROWS[0]),
    "a batch that the steps do not know of": Question("rows_over_flat", ROWS),
    "a batch of one for a step without a batch": Question("rows_over_one", ROW),
    "a batch of one through models of every kind": Question("rows_through_all", ROW),
    "a pinned version": Question("pinned", ROWS),
    "the latest version": Question("latest", ROWS),
    "a reshape": Question("reshaped", ROWS.reshape(2, 2, 2)),
    "an output that is an input": Question("passing", ROWS),
    "nothing but an input": Question("passing", ROWS, ["in"]),
    "texts": Question("words", text("straße", "")),
    "classes by the labels of a step's step": Question("labelled", ROWS, ["out"], 2),
    "a sequence": Question("chain", ROWS, (), 0, {"sequence_id": 7, "sequence_start": True}),
    "a name and parameters": Question(
        "chain", ROWS, (), 0, {"request_id": "r", "parameters": {"own": "x"}}
    ),
}

REFUSALS: Final = {
    "rows for a step that takes one": Question("rows_over_one", ROWS),
    "rows for a later step that takes one": Question("rows_through_all", ROWS),
    "more rows than a step takes": Question("flat_over_rows", np.ones((9, 4), np.float32)),
    "more rows than the ensemble takes": Question("chain", np.ones((9, 4), np.float32)),
    "a wrong shape": Question("chain", np.ones((1, 5), np.float32)),
    "a wrong datatype": Question("chain", np.ones((1, 4), np.int32)),
    "a tensor between steps as an output": Question("chain", ROWS, ["mid"]),
}


def ask(client: Any, question: Question) -> dict[str, Any]:
    """The answer as a document, or the status and the message of its failure."""
    kind = np_to_triton_dtype(question.array.dtype)
    given = grpcclient.InferInput("in", question.array.shape, kind)
    given.set_data_from_numpy(question.array)
    wanted = [
        grpcclient.InferRequestedOutput(name, class_count=question.classes)
        for name in question.outputs
    ]
    try:
        result = client.infer(
            question.model, [given], outputs=wanted or None, client_timeout=30, **question.options
        )
    except InferenceServerException as error:
        return {"status": error.status(), "message": error.message()}
    answer = result.get_response()
    return {
        "outputs": {one.name: result.as_numpy(one.name).tolist() for one in answer.outputs},
        "shapes": {one.name: (one.datatype, list(one.shape)) for one in answer.outputs},
        "model": (answer.model_name, answer.model_version, answer.id),
        "parameters": {
            name: (value.WhichOneof("parameter_choice"), str(value).strip())
            for name, value in answer.parameters.items()
        },
    }


@pytest.mark.parametrize("question", ANSWERED.values(), ids=ANSWERED)
def test_both_give_the_same_answer(servers: Servers, question: Question) -> None:
    theirs = ask(servers.triton, question)

    assert "outputs" in theirs, theirs
    assert ask(servers.ours, question) == theirs


@pytest.mark.parametrize("model", ["chain", "fork", "nested", "labelled"])
@pytest.mark.parametrize("classes", [0, 1])
def test_both_give_the_same_document_over_rest(servers: Servers, model: str, classes: int) -> None:
    request = {
        "id": "r",
        "parameters": {"sequence_id": 5},
        "inputs": [{"name": "in", "shape": [2, 4], "datatype": "FP32", "data": ROWS.tolist()}],
    }
    if classes:
        name = "scaled" if model == "fork" else "out"
        request["outputs"] = [{"name": name, "parameters": {"classification": classes}}]

    theirs, ours = (
        httpx.post(f"http://{address}/v2/models/{model}/infer", json=request).json()
        for address in servers.rest
    )

    for answer in (theirs, ours):  # Triton lists them in no order
        answer["outputs"].sort(key=lambda output: output["name"])
    assert ours == theirs
    assert theirs["id"] == "r"


@pytest.mark.parametrize("question", REFUSALS.values(), ids=REFUSALS)
def test_both_refuse_with_the_same_words_and_we_name_the_step(
    servers: Servers, question: Question
) -> None:
    theirs, ours = ask(servers.triton, question), ask(servers.ours, question)

    # Triton says where in the ensemble's name alone, and adds a note to some messages.
    where, _, message = theirs["message"].rpartition(", [request id")
    assert theirs["status"] == ours["status"]
    assert ours["message"].startswith(where)
    assert plain(message.partition(" NOTE:")[0].strip()) in plain(ours["message"])
    if where:
        assert re.match(rf"{re.escape(where)}, step \d of model '\w+': ", ours["message"])


def test_both_fail_where_a_step_fails(servers: Servers) -> None:
    question = Question("failing_step", np.array([9], np.int64))
    theirs, ours = ask(servers.triton, question), ask(servers.ours, question)

    assert theirs["status"] == ours["status"] == "StatusCode.INTERNAL"
    assert theirs["message"].startswith("in ensemble 'failing_step', ")
    assert ours["message"].startswith("in ensemble 'failing_step', step 0 of model 'failing': ")
    for answer in (theirs, ours):
        assert "indices element out of data bounds, idx=9" in answer["message"]


def counts(client: Any, model: str) -> dict[str, Any]:
    """What was counted of a model, times aside."""
    [found] = client.get_inference_statistics(model).model_stats
    stats = found.inference_stats
    return {
        "inferences": found.inference_count,
        "executions": found.execution_count,
        **{name.name: getattr(stats, name.name).count for name in stats.DESCRIPTOR.fields},
        "batches": sorted((one.batch_size, one.compute_infer.count) for one in found.batch_stats),
    }


def settled(client: Any, model: str, wanted: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
    """The counts once they are as wanted: Triton counts after it has answered."""
    found, deadline = counts(client, model), time.monotonic() + SECONDS
    while not wanted(found) and time.monotonic() < deadline:
        found = counts(client, model)
    return found


@pytest.mark.parametrize(
    ("ensemble", "step", "hits"),
    [("counted", "counting", 0), ("cached", "", 3), ("over_cached", "remembering", 0)],
)
def test_both_count_the_same(servers: Servers, ensemble: str, step: str, hits: int) -> None:
    for client in (servers.triton, servers.ours):
        for rows in (ROWS, ROWS, ROW, ROWS, ROW):
            assert "outputs" in ask(client, Question(ensemble, rows))

    models = [name for name in (ensemble, step) if name]
    for name in models:
        ours = counts(servers.ours, name)
        assert settled(servers.triton, name, lambda found: found == ours) == ours  # noqa: B023
    assert counts(servers.ours, ensemble)["cache_hit"] == hits
    assert counts(servers.ours, ensemble)["success"] == 5


def cache_series(address: str) -> set[tuple[str, str, tuple[tuple[str, str], ...]]]:
    """The cache's metrics at an address: names, types and labels."""
    families = text_string_to_metric_families(httpx.get(f"http://{address}/metrics").text)
    return {
        (sample.name.removesuffix("_total"), family.type, tuple(sorted(sample.labels.items())))
        for family in families
        for sample in family.samples
        if family.name.startswith("nv_cache")
    }


def test_both_tell_of_the_cache_by_the_same_metrics(servers: Servers) -> None:
    theirs, ours = map(cache_series, servers.metrics)

    assert ours == theirs
    assert len(ours) == 4 * len(("remembering", "cached")) + 8


@pytest.mark.parametrize("model", ["chain", "reshaped", "flat_over_rows"])
def test_both_describe_an_ensemble_alike(servers: Servers, model: str) -> None:
    theirs, ours = (client.get_model_metadata(model) for client in (servers.triton, servers.ours))

    assert ours == theirs
    configs = [client.get_model_config(model).config for client in (servers.triton, servers.ours)]
    assert configs[0] == configs[1]


def load(client: Any, model: str) -> str:
    """Why the model does not load."""
    with pytest.raises(InferenceServerException) as failure:
        client.load_model(model)
    return str(failure.value.message())


def plain(message: str) -> str:
    """Without quotes, of which some of Triton's messages have one only."""
    return message.replace("'", "")


# What Triton says of the second one depends on what was said of the first.
@pytest.mark.parametrize("model", [name for name in REFUSED if name != "circle_b"])
def test_both_refuse_an_ensemble_that_its_models_do_not_make(servers: Servers, model: str) -> None:
    theirs = load(servers.triton, model).strip().removesuffix(".")
    reason = theirs.removeprefix(f"load failed for model '{model}': ")
    # A refused part is refused in more words by us: the file, the line and the cure.
    reason = reason.partition("' which is not valid")[0]

    ours = load(servers.ours, model)

    assert ours.startswith(f"load failed for model '{model}': ")
    assert reason in ours


@pytest.mark.parametrize("model", MISCONFIGURED)
def test_both_refuse_a_configuration_that_makes_no_ensemble(servers: Servers, model: str) -> None:
    theirs, ours = load(servers.triton, model), load(servers.ours, model)

    logged = re.findall(
        rf'"Poll failed for model directory \'{model}\': (.*)"\n', servers.log.read_text()
    )
    assert theirs in ours
    assert any(plain(reason) in plain(ours) for reason in logged), logged
