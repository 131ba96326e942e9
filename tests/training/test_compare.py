"""`penstock compare`: every choice of a kind, side by side."""

from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from training.compare import ways
from training.compare_command import compare


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(compare, [str(argument) for argument in arguments])


@pytest.mark.parametrize("what", ["optimizers", "activations", "inits"])
def test_all_of_a_kind_are_trained_and_drawn(what: str, tmp_path: Path) -> None:
    picture = tmp_path / "all.png"
    result = run(what, "corner4x4-mlp", "--epochs", "2", "--output", picture)
    assert result.exit_code == 0, result.output
    first_words = [line.split()[0] for line in result.output.splitlines()]
    assert first_words == [what, *ways(what), "picture"]
    assert picture.read_bytes().startswith(b"\x89PNG\r\n")
    assert list(tmp_path.iterdir()) == [picture]


def test_activations_of_a_recipe_that_has_none_are_refused() -> None:
    result = run("activations", "ett-lstm")
    assert result.exit_code == 2
    assert "--activation: the architecture lstm-forecast" in result.output


def test_a_picture_that_cannot_be_written_is_an_error_without_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    # The kernel's own folder takes no files, not even of root.
    for place in (tmp_path / "file" / "a.png", Path("/proc/a.png")):
        result = run("inits", "corner4x4-cnn", "--epochs", "1", "--output", place)
        assert result.exit_code == 1
        [said] = result.output.splitlines()  # before anything is trained
        assert f"{place}: cannot be written" in said
