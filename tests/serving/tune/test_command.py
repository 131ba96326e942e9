"""What `penstock tune` leaves: in a model's folder, with --write, and of the server it had."""

import os
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from serving.config import Proto, parse
from serving.tune import bench_server
from serving.tune.bench_server import serving
from serving.tune.candidates import Candidate
from serving.tune.command import tune, write_choice
from tests import adders

TEXT = 'name: "m" # by hand\nplatform: "onnxruntime_onnx" max_batch_size: 8\n'


def chosen(folder: Path, threads: int) -> Proto:
    """The configuration in the folder, once such a choice is written."""
    write_choice(folder, parse(TEXT, "the server's"), Candidate(1, threads, 8), "p99=5ms")
    return parse((folder / "config.pbtxt").read_text(), "config.pbtxt")


def test_what_somebody_wrote_is_kept_however_often_the_model_is_tuned(tmp_path: Path) -> None:
    (tmp_path / "config.pbtxt").write_text(TEXT)
    for threads in (1, 2):
        found = chosen(tmp_path, threads)
        assert found.parameters["intra_op_thread_count"].string_value == str(threads)
        assert (tmp_path / "config.pbtxt.untuned").read_text() == TEXT


def test_nothing_is_said_to_be_kept_where_nothing_was(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert chosen(tmp_path, 1).max_batch_size == 8
    assert capsys.readouterr().err == f"written: {tmp_path / 'config.pbtxt'}\n"
    assert [each.name for each in tmp_path.iterdir()] == ["config.pbtxt"]


def test_a_choice_that_cannot_be_written_is_told_of_and_leaves_what_was_there(
    tmp_path: Path,
) -> None:
    (tmp_path / "config.pbtxt").write_text(TEXT)
    (tmp_path / "config.pbtxt.untuned").mkdir()
    with pytest.raises(click.ClickException, match=r"untuned: cannot be written: Is a directory"):
        chosen(tmp_path, 1)
    assert (tmp_path / "config.pbtxt").read_text() == TEXT


def test_a_full_disk_is_told_by_the_file_and_leaves_no_draft(tmp_path: Path) -> None:
    (tmp_path / "config.pbtxt").write_text(TEXT)
    # What is written to it finds no room, as on a disk that is full.
    (tmp_path / ".config.pbtxt.untuned").symlink_to("/dev/full")
    with pytest.raises(click.ClickException) as caught:
        chosen(tmp_path, 1)
    assert caught.value.message == (
        f"{tmp_path / 'config.pbtxt.untuned'}: cannot be written: No space left on device; the "
        "choice is in the table"
    )
    assert [each.name for each in tmp_path.iterdir()] == ["config.pbtxt"]


def test_a_folder_that_cannot_be_written_into_is_told_before_anything_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adders.add(tmp_path, "a", 1)
    # As of a file system that is read only.
    monkeypatch.setattr("os.access", lambda _, mode, **more: not mode & os.W_OK)
    done = CliRunner().invoke(
        tune, ["a", f"--model-repository={tmp_path}", "--slo=p99=1s", "--write", "--duration=10ms"]
    )
    assert done.exit_code == 2
    assert f"--write: {tmp_path / 'a'} cannot be written into" in done.output


def test_a_server_that_does_not_stop_in_time_ends_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    adders.add(tmp_path, "a", 1)
    monkeypatch.setattr(bench_server, "_STOP_SECONDS", 0)
    with serving(str(tmp_path), "a") as server:
        assert server.config().max_batch_size == 4
    with pytest.raises(bench_server.Failed, match="does not answer"):
        server.config()
