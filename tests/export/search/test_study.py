"""The trials of a search outlive whoever runs them, and the best are found among them."""

from collections.abc import Iterator
from contextlib import closing
from math import inf
from pathlib import Path

import pytest

from export.search.space import own_point, space
from export.search.study import Outcome, Study, front, winner
from training.catalog import RECIPES
from training.errors import StateError

RECIPE = RECIPES["digits-mlp"]
OUTCOMES = [
    Outcome(number, {}, error, latency)
    for number, (error, latency) in enumerate(
        [(0.05, 30), (0.02, 50), (0.02, 60), (0.04, 55), (0.01, 90), (0.05, 40), (inf, inf)], 1
    )
]


def opened(folder: Path, recipe: str = "digits-mlp") -> Study:
    identity = {"recipe": recipe, "configuration": (1, 2)}
    return Study(folder / "trials.db", identity, space(RECIPE), own_point(RECIPE))


@pytest.fixture
def study(tmp_path: Path) -> Iterator[Study]:
    with closing(opened(tmp_path)) as made:
        yield made


def test_the_first_trial_is_the_recipe_itself(study: Study) -> None:
    first, second = study.ask(), study.ask()
    assert first.params == own_point(RECIPE) != second.params


def test_a_search_goes_on_and_tries_again_what_was_under_way(study: Study, tmp_path: Path) -> None:
    study.tell(study.ask(), 0.1, 20.0)
    study.tell_failed(study.ask(), "diverged")
    killed = study.ask()
    with closing(opened(tmp_path)) as later:
        done, failed = later.outcomes()
        assert (done.number, done.error, done.latency) == (1, 0.1, 20)
        assert (failed.number, failed.failure, failed.error) == (2, "diverged", inf)
        assert later.ask().params == killed.params
        assert later.ask().params != killed.params


def test_the_search_of_something_else_is_refused(study: Study, tmp_path: Path) -> None:
    with pytest.raises(StateError, match=r"trials\.db: a search with another recipe\. .*--output"):
        opened(tmp_path, "mnist-mlp")


def test_a_file_that_is_no_search_is_refused_and_not_left_open(tmp_path: Path) -> None:
    path = tmp_path / "trials.db"
    path.write_text("no database at all, however long one looks at it" * 99)
    with pytest.raises(StateError, match=r"db: not a search that can go on \(file is not a data"):
        opened(tmp_path)
    assert path not in [file.resolve() for file in Path("/proc/self/fd").iterdir()]


def test_the_front_holds_what_no_other_beats_in_both() -> None:
    assert [each.number for each in front(OUTCOMES)] == [1, 2, 5]
    assert front(OUTCOMES[-1:]) == []


@pytest.mark.parametrize(
    ("most", "number"), [(inf, 5), (90, 5), (89, 2), (50, 2), (49, 1), (30, 1)]
)
def test_the_winner_is_the_most_accurate_that_is_fast_enough(most: float, number: int) -> None:
    found = winner(OUTCOMES, most)
    assert found is not None
    assert found.number == number


def test_there_is_no_winner_where_none_is_fast_enough() -> None:
    assert winner(OUTCOMES, 29) is None
