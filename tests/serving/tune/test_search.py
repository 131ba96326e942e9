"""What is measured, and what is made of it; the machine is a formula here."""

from collections.abc import Sequence
from io import StringIO
from math import inf

import pytest
from rich.console import Console

from serving.config import parse
from serving.tune.candidates import Candidate, delays, layouts, sizes
from serving.tune.choice import Point, best, pareto
from serving.tune.report import document, reasons, table
from serving.tune.search import confirm, search

CONFIG = """\
name: "m"
max_batch_size: 32
instance_group { kind: KIND_CPU count: 3 }
dynamic_batching { preferred_batch_size: 8 preserve_ordering: true }
"""


def point(
    throughput: float,
    latency: float,
    candidate: Candidate | None = None,
    *,
    connections: int = 1,
    is_good: bool = True,
    failure: str = "",
) -> Point:
    return Point(candidate, connections, throughput, latency, is_good, failure)


class Machine:
    """Answers best with two instances, batches of 8, and no delay."""

    def __init__(self, limit: float = 1.0) -> None:
        self.measured: list[Candidate | None] = []
        self._limit = limit

    def __call__(self, candidate: Candidate | None) -> Sequence[Point]:
        self.measured.append(candidate)
        if candidate is None:
            return [point(100, 0.5, is_good=self._limit >= 0.5)]
        speed = 1000 / (1 + abs(candidate.instances - 2) + abs(candidate.rows - 8) / 8)
        latency = 10 / speed + candidate.delay / 1e3
        return [point(speed, latency, candidate, is_good=latency <= self._limit)]


def test_layouts_use_one_processor_or_all_of_them() -> None:
    assert layouts(1, 8) == [Candidate(1, 1, 8)]
    pairs = [(each.instances, each.threads) for each in layouts(6, 8)]
    assert pairs == [(1, 1), (1, 6), (2, 1), (2, 3), (4, 1)]


def test_batches_get_smaller_down_to_one_row() -> None:
    assert [each.rows for each in sizes(Candidate(1, 1, 32))] == [8, 2]
    assert [each.rows for each in sizes(Candidate(1, 1, 1))] == []


def test_no_batch_is_smaller_than_a_request() -> None:
    assert [each.rows for each in sizes(Candidate(1, 1, 32), 8)] == [8]
    machine = Machine(limit=1.2)
    points = search(machine, 4, 32, objective=1.0, least=8)
    assert {point.candidate.rows for point in points if point.candidate} == {32, 8}


def test_delays_leave_most_of_the_objective_for_the_execution() -> None:
    assert [each.delay for each in delays(Candidate(1, 1, 8), 0.005)] == [200, 1000]
    assert list(delays(Candidate(1, 1, 1), 1.0)) == []


def test_a_candidate_changes_what_it_is_about_and_nothing_else() -> None:
    config = parse(CONFIG, "config.pbtxt")
    changed = Candidate(2, 4, 16, 500).apply(config)
    assert [(group.count, group.kind) for group in changed.instance_group] == [(2, 2)]
    assert changed.parameters["intra_op_thread_count"].string_value == "4"
    assert changed.max_batch_size == 16
    assert list(changed.dynamic_batching.preferred_batch_size) == []
    assert changed.dynamic_batching.max_queue_delay_microseconds == 500
    assert changed.dynamic_batching.preserve_ordering
    assert config == parse(CONFIG, "config.pbtxt")


def test_a_model_that_does_not_batch_stays_so() -> None:
    changed = Candidate(2, 1, 0).apply(parse('name: "m"', "config.pbtxt"))
    assert not changed.HasField("dynamic_batching")
    assert changed.max_batch_size == 0


def test_the_front_holds_what_nothing_beats_in_both() -> None:
    slow, fast = point(10, 0.1), point(30, 0.3)
    beaten = point(9, 0.2)
    assert pareto([fast, beaten, slow]) == [slow, fast]


def test_the_best_is_the_most_within_the_objective() -> None:
    late = point(99, 9.0, is_good=False)
    assert best([point(10, 0.1), point(20, 0.2), late]) == point(20, 0.2)
    assert best([late]) is None


def test_of_about_equal_ones_the_best_takes_least() -> None:
    large, small = Candidate(4, 2, 8), Candidate(1, 1, 8)
    assert best([point(100, 1, large), point(98, 1, small)]) == point(98, 1, small)
    assert best([point(100, 1, small), point(98, 2)]) == point(98, 2)


def test_a_search_goes_from_the_best_of_a_stage_to_the_next() -> None:
    machine = Machine(limit=1.2)
    points, chosen = confirm(machine, search(machine, 4, 32, objective=1.0))
    assert chosen is not None
    assert chosen.candidate == Candidate(2, 1, 8)
    assert machine.measured[0] is None
    assert machine.measured[-4:] == [None, Candidate(2, 1, 8)] * 2
    assert Candidate(2, 1, 8, 200) in machine.measured
    assert sum(each.candidate == chosen.candidate for each in points) == 1


def test_what_is_only_luck_is_not_chosen() -> None:
    lucky = Candidate(1, 1, 8)
    points = [point(100, 0.1), point(150, 0.1, lucky)]

    def unlucky(candidate: Candidate | None) -> Sequence[Point]:
        return [point(100 if candidate is None else 60, 0.1, candidate)]

    sure, chosen = confirm(unlucky, points)
    assert chosen == point(100, 0.1)
    assert point(60, 0.1, lucky) in sure
    assert "stays" in " ".join(reasons(sure, chosen, "p99=1s"))


@pytest.mark.parametrize(("limit", "words"), [(0.001, "Nothing that was tried"), (2.0, "times as")])
def test_the_reasons_say_what_was_found(limit: float, words: str) -> None:
    machine = Machine(limit)
    points, chosen = confirm(machine, search(machine, 2, 32, limit))
    assert words in " ".join(reasons(points, chosen, "p99=1s"))


def test_failures_are_told_and_not_taken_for_slowness() -> None:
    told = "80 % of the requests failed; HTTP 500: no such row"
    quick = point(500, 0.001, is_good=False, failure=told)
    silent = point(0, inf, Candidate(1, 1, 8), is_good=False, failure=told)
    slow = point(10, 2.0, Candidate(1, 2, 8), is_good=False)

    assert " ".join(reasons([silent, quick], None, "p99=1s")) == (
        f"Everything that was tried has failures. as configured with 1 connection: {told}"
    )
    assert "the nearest, 1 x 2 threads" in " ".join(reasons([quick, slow], None, "p99=1s"))
    chosen = point(9, 0.5, Candidate(2, 1, 8))
    assert reasons([quick, chosen], chosen, "p99=1s")[1:] == [
        f"As configured, with 1 connection: {told}",
        f"as configured gives 500 answers/s at 1 connection, but {told}",
    ]
    assert [line["latency"] for line in document([silent], None, {})["points"]] == [None]
    text = StringIO()
    Console(width=200, file=text).print(table([silent], None, "p99=1s"))
    assert text.getvalue().split()[-2:] == ["-", "fails"]


def test_the_document_holds_every_point() -> None:
    points = [point(10, 0.1), point(5, 0.2, Candidate(1, 2, 8, 200), is_good=False)]
    written = document(points, points[0], {"model": "m"})
    assert written["model"] == "m"
    assert written["chosen"] == written["points"][0]
    assert written["points"][0]["candidate"] is None
    assert written["points"][1] == {
        "candidate": {
            "instances": 1,
            "threads": 2,
            "max_batch_size": 8,
            "max_queue_delay_microseconds": 200,
        },
        "connections": 1,
        "throughput": 5,
        "latency": 0.2,
        "failure": "",
        "meets_objective": False,
        "is_pareto": False,
    }
