"""When a recipe is as good as it has to be, and how long that took."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from bench import training as bench
from bench.training import BARS, BARS_ON_GPUS, Bar, Run
from training.catalog import RECIPES
from training.curve import Epoch


def run(seed: int, *accuracies: float) -> Run:
    """Of the recipe digits-mlp; each epoch takes two seconds."""
    rows = (Epoch(n, 0.1, 1.0, 1.0, accuracy, 2.0) for n, accuracy in enumerate(accuracies, 1))
    return Run("digits-mlp", BARS["digits-mlp"], seed, tuple(rows))


def test_every_bar_is_that_of_a_recipe() -> None:
    assert BARS_ON_GPUS.keys() <= BARS.keys() <= RECIPES.keys()


def test_on_a_gpu_some_bars_are_higher() -> None:
    assert bench.bars("cpu")["cifar10-resnet"] == Bar(0.92)
    assert bench.bars("cuda")["cifar10-resnet"] == Bar(0.94)
    assert bench.bars("cuda")["mnist-cnn"] == bench.bars("cpu")["mnist-cnn"]


def test_a_loss_has_to_come_down_to_its_bar() -> None:
    rows = tuple(Epoch(n, 0.1, 1.0, loss, None, 2.0) for n, loss in enumerate((1.7, 1.65), 1))
    passed = Run("shakespeare-gpt", BARS["shakespeare-gpt"], 0, rows)
    assert passed.passed == 2
    assert str(passed).endswith("1.65 nats behind epoch 2, 4.0 s; 1.650 nats at the end")
    assert bench.sheet([passed]).rows[0][-1] == "1.650 nats"


def test_the_bar_is_passed_at_the_first_epoch_that_reaches_it() -> None:
    passed = run(0, 0.9, 0.98, 0.97)
    assert passed.passed == 2
    assert passed.seconds(2) == 4
    assert str(passed) == "digits-mlp, seed 0: 98.0% behind epoch 2, 4.0 s; 97.00 % at the end"
    assert str(run(1, 0.9)) == "digits-mlp, seed 1: never 98.0%; 90.00 % at the end"


def test_a_table_has_means_and_deviations_over_the_runs_that_passed() -> None:
    sheet = bench.sheet([run(0, 0.9, 0.98, 0.99), run(1, 0.98, 0.98, 0.98), run(2, 0.9, 0.9, 0.9)])
    [row] = [dict(zip(sheet.headings, row, strict=True)) for row in sheet.rows]
    assert (row["runs"], row["passed"]) == ("3", "2")
    assert row["epochs to the bar"] == "1.5 ± 0.7"
    assert row["seconds to the bar"] == "3.00 ± 1.41"
    assert (row["epochs in all"], row["seconds in all"]) == ("3", "6.00")
    assert row["result at the end"] == "95.67 ± 4.93 %"


def test_what_never_passes_has_no_time_to_the_bar() -> None:
    [row] = bench.sheet([run(0, 0.5)]).rows
    assert row[3:6] == ["0", "-", "-"]


def test_a_recipe_is_trained_and_the_record_says_where(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = RECIPES["binary-mlp"]
    short = replace(recipe, config=replace(recipe.config, epochs=5))
    monkeypatch.setattr(bench, "RECIPES", {"binary-mlp": short})
    monkeypatch.setattr(bench, "RESULTS", tmp_path)
    bench.main(["binary-mlp", "--runs", "1", "--device", "cpu", "--save", "it"])
    assert "binary-mlp, seed 0: " in capsys.readouterr().out
    record = json.loads((tmp_path / "it.json").read_text())
    assert record["hardware"]
    assert record["GPU"] == "none"
    assert len(record["runs"][0]["history"]) == 5
    assert "| binary-mlp | 90.0% | 1 |" in (tmp_path / "it.md").read_text()


def test_a_recipe_without_a_bar_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        bench.arguments(["ett-lstm"])
    assert "no bar is set for ett-lstm" in capsys.readouterr().err
