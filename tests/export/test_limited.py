"""An import does not wait for ever for a model that may never come to an end."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from subprocess import PIPE, STDOUT
from typing import Final

import pytest

from export.errors import RunTooLong
from export.importing import import_model
from export.job import ImportJob
from tests.endless import FOR_EVER, looping
from tests.export.onnx_graphs import written

IMPORT: Final = (sys.executable, "-m", "penstock", "import")


def test_a_run_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    source = written(tmp_path, looping(FOR_EVER))
    job = ImportJob(source, tmp_path / "models", run_timeout=0.5)

    with pytest.raises(RunTooLong) as refused:
        import_model(job)

    assert f"{source}: the model takes longer than 0.5 s for rounds [1]; give it" in str(
        refused.value
    )
    assert not job.repository.exists()


def test_a_loop_that_ends_is_imported(tmp_path: Path) -> None:
    job = ImportJob(written(tmp_path, looping()), tmp_path / "models")

    assert import_model(job).passport.rows is not None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_run_and_leaves_no_copy(tmp_path: Path, number: signal.Signals) -> None:
    command = (*IMPORT, written(tmp_path, looping(FOR_EVER)), "--repository", tmp_path / "models")
    copies = tmp_path / "copies"
    copies.mkdir()
    environment = os.environ | {"TMPDIR": str(copies)}
    with subprocess.Popen(
        command, stdout=PIPE, stderr=STDOUT, text=True, env=environment
    ) as process:
        try:
            assert process.stdout is not None
            while "Run it" not in process.stdout.readline():
                assert process.poll() is None
            began = computed(process.pid)
            while computed(process.pid) < began + 1:
                pass
            assert list(copies.glob("penstock-*"))
            process.send_signal(number)
            assert process.wait(60) == 128 + number
        finally:
            process.kill()
        assert "Aborted!" in process.stdout.read()
    assert not (tmp_path / "models").exists()
    assert not list(copies.glob("penstock-*"))


def computed(pid: int) -> float:
    """Seconds of a processor; a model without an end takes as many as one looks on for."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) / os.sysconf("SC_CLK_TCK")
