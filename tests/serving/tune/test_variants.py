"""Which variants of a model there are, and what is made of how fast they are."""

import shutil
from pathlib import Path

import pytest

from serving.bench import slo
from serving.tune.choice import Point
from serving.tune.measure import Load
from serving.tune.variants import Compared, compare, document, find, sentence
from tests.e2e.server import REPOSITORY
from tests.serving.tune.variants import add_variant

CHOSEN = Point(None, 8, 1000.0, 0.004, is_good=True)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    shutil.copytree(REPOSITORY / "digits-mlp", tmp_path / "digits-mlp")
    return tmp_path


def compared(repository: Path, throughput: float | None, failure: str = "") -> Compared:
    add_variant(repository, "digits-mlp", "small")
    [variant] = find(repository, "digits-mlp")
    point = None if throughput is None else Point(None, 32, throughput, 0.002, is_good=True)
    return Compared(variant, point, failure)


def test_variants_are_known_by_the_file_that_they_were_made_of(repository: Path) -> None:
    add_variant(repository, "digits-mlp", "any-name")
    add_variant(repository, "digits-mlp", "of-another-training", fp32_sha256="0" * 64)
    (repository / "without-a-passport" / "1").mkdir(parents=True)
    (repository / "notes.txt").write_text("no model")
    assert [each.name for each in find(repository, "digits-mlp")] == ["any-name"]
    assert list(find(repository, "any-name")) == []


@pytest.mark.parametrize(
    ("throughput", "words"),
    [
        (1500.0, "1,500 answers/s (2.00 ms), 1.50 times as many: have clients ask for it by"),
        (1020.0, "fp32 gives as many or more, stay with it"),
        (500.0, "fp32 gives as many or more, stay with it"),
        (None, "misses p99=5ms at every load"),
    ],
)
def test_a_variant_is_advised_where_it_gives_more_than_noise(
    repository: Path, throughput: float | None, words: str
) -> None:
    said = sentence(compared(repository, throughput), CHOSEN, "p99=5ms")
    assert said.startswith("small (int8, loses 0.25 points of accuracy)")
    assert words in said


def test_a_variant_that_takes_fewer_rows_is_told_and_not_measured(repository: Path) -> None:
    add_variant(repository, "digits-mlp", "small")
    config = repository / "small" / "config.pbtxt"
    config.write_text(config.read_text().replace("max_batch_size: 64", "max_batch_size: 32"))
    load = Load([1], 0.1, 64, {}, slo.complete([slo.parse("p99=1s")]))
    [found] = compare(repository, list(find(repository, "digits-mlp")), CHOSEN, load)
    assert found.point is None
    assert found.failure == "--batch-size 64: model 'small' takes at most 32 rows"


def test_what_cannot_be_measured_is_told_and_not_hidden(repository: Path) -> None:
    failed = compared(repository, None, "it does not load")
    assert "could not be measured: it does not load" in sentence(failed, CHOSEN, "p99=5ms")
    [line] = document([failed])
    assert (line["model"], line["throughput"], line["failure"]) == (
        "small",
        None,
        "it does not load",
    )
