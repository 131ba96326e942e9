"""`penstock tune` on a real server of its own."""

import json
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Final

import numpy as np
import pytest
from click.testing import CliRunner, Result

from serving.config import parse, to_text
from serving.tune.command import tune
from tests.e2e.server import REPOSITORY, ROOT
from tests.serving.tune.variants import add_variant

_SERVES: Final = """\
import sys
from serving.tune.bench_server import serving

with serving(sys.argv[1], "digits-mlp") as server:
    print(server.port, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    shutil.copytree(REPOSITORY / "digits-mlp", tmp_path / "digits-mlp")
    shutil.copytree(ROOT / "deploy" / "locust" / "models" / "repeat", tmp_path / "repeat")
    return tmp_path


def tuned(repository: Path, *arguments: str) -> Result:
    options = ("--model-repository", str(repository), "--duration", "0.15s", "--concurrency", "2")
    return CliRunner().invoke(tune, [*options, *arguments])


def test_what_is_chosen_is_written_and_what_was_there_is_kept(
    repository: Path, tmp_path: Path
) -> None:
    add_variant(repository, "digits-mlp", "digits-mlp-int8")
    path = repository / "digits-mlp" / "config.pbtxt"
    # A hundred times as long a wait as anything takes: whatever is tried, is better.
    config = parse(path.read_text(), "config.pbtxt")
    config.dynamic_batching.max_queue_delay_microseconds = 500_000
    before = to_text(config)
    path.write_text(before)
    written = tmp_path / "tuned.json"

    found = tuned(repository, "digits-mlp", "--slo", "max=10s", "--write", "--json", str(written))

    assert found.exit_code == 0, found.output
    document = json.loads(written.read_text())
    chosen = document["chosen"]["candidate"]
    now = parse(path.read_text(), "config.pbtxt")
    assert now.instance_group[0].count == chosen["instances"]
    assert now.parameters["intra_op_thread_count"].string_value == str(chosen["threads"])
    assert now.max_batch_size == chosen["max_batch_size"]
    assert path.with_name("config.pbtxt.untuned").read_text() == before
    # What was configured, a layout on one processor or more on several, and three sizes of batches.
    assert len({json.dumps(each["candidate"]) for each in document["points"]}) >= 1 + 1 + 3
    assert "times as many" in found.output
    [variant] = document["variants"]
    assert (variant["model"], variant["precision"], variant["loss"]) == (
        "digits-mlp-int8",
        "int8",
        0.25,
    )
    assert variant["throughput"] > 0
    assert "digits-mlp-int8 (int8, loses 0.25 points of accuracy): " in found.output


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("digits-mlp", "--slo", "throughput=5/s"), "expected a latency, such as p99=10ms"),
        (("digits-mlp", "--slo", "p99=1s", "--batch-size", "65"), "'digits-mlp' takes 64 rows"),
        (("digits-mlp", "--slo", "p99=1s", "--json", "none/x.json"), "there is no folder"),
        (("nobody", "--slo", "p99=1s"), "there is no model 'nobody' in it"),
        (("repeat", "--slo", "p99=1s"), "'repeat' is decoupled"),
    ],
)
def test_what_cannot_be_tuned_is_refused(
    repository: Path, arguments: tuple[str, ...], words: str
) -> None:
    found = tuned(repository, *arguments)
    assert found.exit_code != 0
    assert words in found.output


def test_inputs_of_a_file_are_sent_and_what_fails_is_told(repository: Path, tmp_path: Path) -> None:
    file = tmp_path / "rows.npz"
    np.savez(file, features=np.zeros((32, 64), np.float32))
    # No smaller batch is tried than such a request has rows.
    large = ("--input-data", str(file), "--batch-size", "32")
    found = tuned(repository, "digits-mlp", "--slo", "max=10s", *large)
    assert found.exit_code == 0, found.output

    # The model takes none of these.
    np.savez(file, features=np.full((4, 64), np.nan, np.float32))
    found = tuned(repository, "digits-mlp", "--slo", "max=10s", "--input-data", str(file))
    assert found.exit_code == 1
    assert "100.0 % of the requests failed; HTTP 400: " in found.output


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nobody tells of a parent's end")
def test_a_result_that_finds_no_room_is_told_and_the_choice_is_written(repository: Path) -> None:
    path = repository / "digits-mlp" / "config.pbtxt"
    config = parse(path.read_text(), "config.pbtxt")
    config.dynamic_batching.max_queue_delay_microseconds = 500_000
    path.write_text(to_text(config))

    found = tuned(repository, "digits-mlp", "--slo", "max=10s", "--write", "--json", "/dev/full")

    assert found.exit_code == 1
    assert "Error: /dev/full: cannot be written: No space left on device" in found.output
    assert path.read_text().startswith("# Chosen by penstock tune")


def test_who_is_killed_takes_the_server_along(repository: Path) -> None:
    command = [sys.executable, "-c", _SERVES, str(repository)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as killed:
        assert killed.stdout is not None
        address = ("127.0.0.1", int(killed.stdout.readline()))
        # Less than the server waits for a client that says nothing.
        with socket.create_connection(address, timeout=60) as connection:
            killed.kill()
            assert connection.recv(1) == b""
