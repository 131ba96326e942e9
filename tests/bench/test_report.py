"""The tables say what was measured, whose it is, and which goals are met."""

from bench import cases, goals, report
from bench.cases import Case
from bench.contestants import RAW
from bench.lineup import COMMITTED, FASTAPI, FEW, MANY, MAPPED, OURS
from bench.windows import Result
from tests.bench.windows import window

RESULT = Result(
    Case(cases.BINARY, 32),
    {
        OURS: [window(4000, server=0.8), window(5000, server=1.0, errors=1)],
        FASTAPI: [window(500, server=1.0), window(1000, server=2.0)],
    },
    dropped=1,
)


def test_each_contestant_has_a_row_with_ratios_to_ours() -> None:
    sheet = report.of_cases([RESULT])

    rows = [dict(zip(sheet.headings, row, strict=True)) for row in sheet.rows]
    assert [row["server"] for row in rows] == [OURS, FASTAPI]
    assert rows[0]["kind, connections"] == "rest-binary, 32"
    assert rows[0]["requests/s"] == "4,500"
    assert rows[0]["CPU us"] == "200"
    assert (rows[0]["errors"], rows[1]["errors"]) == ("1", "0")
    assert rows[0]["n"] == "2 of 3"
    assert (rows[0]["ours is"], rows[1]["ours is"]) == ("", "6.50x (5.00-8.00)")
    assert rows[1]["ours costs"] == "0.10x (0.10-0.10)"


def test_a_goal_is_met_by_the_median_and_shown_by_processor_time_too() -> None:
    speed, fair = goals.outcomes([RESULT], {})

    assert (speed.wanted, speed.found.median, speed.met) == (7.0, 6.5, False)
    assert speed.cost is not None
    assert round(speed.cost.median, 3) == 10
    assert speed.met_by_cost
    assert (fair.found.median, fair.met, fair.met_by_cost) == (2.5, True, False)
    assert [row[-1] for row in report.of_goals([speed, fair]).rows] == ["by CPU time", "yes"]


def test_shared_memory_is_held_to_the_raw_runtime_copied_and_mapped() -> None:
    windows = {OURS: [window(300)], MAPPED: [window(800)], RAW: [window(1000)]}

    found = goals.outcomes([Result(Case(cases.LARGE_SHARED, 1), windows)], {})

    assert [(one.goal, one.met) for one in found] == [
        ("large-shared, 1: ours over raw", False),
        ("large-shared, 1: ours, mapped memory over raw", True),
    ]


def test_goals_without_figures_are_left_out() -> None:
    alone = Result(Case(cases.JSON, 1), {OURS: [window()]})

    assert goals.outcomes([alone], {}) == []


def test_growth_of_cost_compares_like_with_like() -> None:
    connected = Result(
        Case(cases.GRPC, 256), {OURS: [window(server=0.6)], FEW: [window(server=0.5)]}
    )
    models = Result(
        Case(cases.MODELS, 32), {OURS: [window(server=0.5)], MANY: [window(server=0.54)]}
    )

    found = {one.goal: one for one in goals.outcomes([connected, models], {})}

    connections = found["grpc: cost at 256 over 32 connections"]
    assert (round(connections.found.median, 3), connections.met) == (1.2, False)
    assert found["cost with 100 models over 2"].met


def test_the_goal_of_the_start_is_held_to_by_the_committed_models() -> None:
    (found,) = goals.outcomes([], {OURS: [0.5], COMMITTED: [1.5, 1.9, 2.5]})

    assert (found.goal, found.found.median, found.met) == ("start to first inference", 1.9, True)


def test_a_sheet_is_a_markdown_table() -> None:
    sheet = report.of_starts({OURS: [1.0, 2.0, 4.0]})

    assert sheet.markdown() == (
        "## Start to first inference\n\n"
        "| server | seconds | range | n |\n"
        "| --- | ---: | ---: | ---: |\n"
        "| ours | 2.00 | 1.00 to 4.00 | 3 |\n"
        f"\n{report.STARTS}\n"
    )
