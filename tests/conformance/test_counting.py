"""After the same requests, both servers have counted the same: statistics and metrics."""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final, TypeVar

import httpx
import pytest

from tests.conformance.calls import Connection
from tests.conformance.cases_inference import ONES, SIXTEEN
from tests.conformance.conftest import Pair
from tests.conformance.differences import METRICS, NEWER_METRICS
from tests.conformance.tensors import Infer, Input, Output, as_json, as_raw_contents

MODEL: Final = "simple_fp32"
FAMILY: Final = re.compile(r"^# TYPE (nv_\w+) (\w+)$", re.MULTILINE)
SAMPLE: Final = re.compile(r"^(nv_\w+)\{(.*)\} (\S+)$", re.MULTILINE)

# The requests of `_ask` that run.
EXECUTED: Final = 4
SUCCESS: Final = ("nv_inference_request_success", f'model="{MODEL}"', 'version="1"')

_Counts = TypeVar("_Counts")

# The requests of `_ask` that do not fit the model: they count as failed, and for Triton as nothing.
REFUSED: Final = 2


def _rows(count: int, *outputs: Output, names: tuple[str, ...] = ("INPUT0", "INPUT1")) -> Infer:
    data = SIXTEEN[:4] * count, ONES[:4] * count
    inputs = [
        Input(name, "FP32", [count, 4], list(map(float, values)))
        for name, values in zip(names, data, strict=False)
    ]
    return Infer(MODEL, inputs, outputs)


def _ask(server: Connection) -> None:
    """Three requests of one row, one of three, one refused over each protocol."""
    for count in (1, 1, 3):
        assert as_json(_rows(count)).send(server).status == 200
    assert as_raw_contents(_rows(1)).send(server).status == "OK"
    assert as_json(_rows(1, Output("X"))).send(server).status == 400
    missing = as_raw_contents(_rows(1, names=("INPUT0",))).send(server)
    assert missing.status == "INVALID_ARGUMENT"


def _statistics(server: Connection, model: str) -> dict[str, Any]:
    """The statistics as dotted names; each batch size by its number."""
    [found] = server.http.get(f"/v2/models/{model}/stats").json()["model_stats"]
    found["batch_stats"] = {str(one.pop("batch_size")): one for one in found["batch_stats"]}
    return dict(_flat(found))


def _flat(document: Mapping[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in document.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{path}{name}.")
        else:
            yield f"{path}{name}", value


def _settled(read: Callable[[], _Counts], is_done: Callable[[_Counts], bool]) -> _Counts:
    """What `read` gives in the end: once it is done, and the same twice."""
    before, now = read(), read()
    while now != before or not is_done(now):
        before, now = now, read()
    return now


def _requests(statistics: Mapping[str, Any]) -> int:
    return sum(int(statistics[f"inference_stats.{kind}.count"]) for kind in ("success", "fail"))


@contextmanager
def _counted(server: Connection, model: str, requests: int) -> Iterator[Counter[str]]:
    """What the block adds to the model's counts; filled at its end.

    At least so many of its requests are counted: Triton does it after it has answered.
    """
    added: Counter[str] = Counter()
    before = _statistics(server, model)
    yield added
    after = _settled(
        lambda: _statistics(server, model),
        lambda counted: _requests(counted) - _requests(before) >= requests,
    )
    for name, value in after.items():
        if isinstance(value, int) and name != "last_inference":
            added[name] = value - before.get(name, 0)


def test_statistics_have_the_same_members(pair: Pair) -> None:
    _ask(pair.triton)
    _ask(pair.ours)
    ours, theirs = _statistics(pair.ours, MODEL), _statistics(pair.triton, MODEL)
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        assert type(ours[name]) is type(value), name


def test_the_same_requests_count_the_same(pair: Pair) -> None:
    with _counted(pair.triton, MODEL, EXECUTED) as theirs:
        _ask(pair.triton)
    with _counted(pair.ours, MODEL, EXECUTED) as ours:
        _ask(pair.ours)

    counts = {name for name in theirs if not name.endswith("ns")}
    found = {name: (ours[name], theirs[name]) for name in counts if ours[name] != theirs[name]}
    assert found == {"inference_stats.fail.count": (REFUSED, 0)}
    assert theirs["inference_count"] == 6
    durations = [name for name in theirs if name.endswith(".ns") and theirs[name]]
    assert durations
    assert all(ours[name] > 0 for name in durations)


def test_a_failed_execution_counts_the_same(pair: Pair) -> None:
    counts = []
    for server in (pair.ours, pair.triton):
        with _counted(server, "failing", 2) as added:
            for index in (0, 7):
                as_json(Infer("failing", [Input("IN", "INT64", [1], [index])])).send(server)
        counts.append({name: n for name, n in added.items() if not name.endswith("ns")})
    ours, theirs = counts

    # The stand-in for Triton's backend reports executions that failed too; those that count in
    # the statistics extension are the successful ones.
    executions = {name for name in theirs if name.startswith(("batch_stats", "execution"))}
    assert {name for name in theirs if ours[name] != theirs[name]} == executions
    assert all((ours[name], theirs[name]) == (1, 2) for name in executions)
    assert ours["inference_stats.fail.count"] == 1


def _scrape(server: Connection) -> str:
    return httpx.get(f"http://{server.address.metrics}/metrics").text


def _scraped(server: Connection) -> dict[tuple[str, ...], float]:
    return _samples(_scrape(server), MODEL)


def _samples(text: str, model: str) -> dict[tuple[str, ...], float]:
    """Each sample of the model by its name and sorted labels."""
    return {
        (name, *sorted(labels.split(","))): float(value)
        for name, labels, value in SAMPLE.findall(text)
        if f'model="{model}"' in labels and name not in NEWER_METRICS
    }


def _raised(server: Connection) -> dict[tuple[str, ...], float]:
    """What the requests add to each sample."""
    before = _scraped(server)
    _ask(server)
    after = _settled(
        lambda: _scraped(server), lambda counts: counts[SUCCESS] >= before[SUCCESS] + EXECUTED
    )
    return {name: after[name] - before[name] for name in after}


def test_the_metric_families_are_tritons(pair: Pair) -> None:
    ours, theirs = dict(FAMILY.findall(_scrape(pair.ours))), FAMILY.findall(_scrape(pair.triton))
    expected = {name: kind for name, kind in theirs if name not in METRICS}
    assert ours == expected | dict.fromkeys(NEWER_METRICS, "gauge")
    assert METRICS.keys() <= {name for name, _ in theirs}


@pytest.mark.parametrize("model", ["slow", "labelled"])
def test_series_have_tritons_labels_and_are_there_before_any_request(
    pair: Pair, model: str
) -> None:
    ours = _samples(_scrape(pair.ours), model)
    assert ours.keys() == _samples(_scrape(pair.triton), model).keys()
    assert ("nv_inference_count", f'model="{model}"', 'version="1"') in ours


def test_the_same_requests_raise_the_same_metrics(pair: Pair) -> None:
    ours, theirs = _raised(pair.ours), _raised(pair.triton)

    found = {
        name: (ours[name], theirs[name])
        for name in theirs
        if not name[0].endswith("_us") and ours[name] != theirs[name]
    }
    refused = ("nv_inference_request_failure", f'model="{MODEL}"', 'reason="OTHER"', 'version="1"')
    assert found == {refused: (REFUSED, 0)}
    assert all(ours[name] > 0 for name in theirs if name[0].endswith("_us") and theirs[name])
