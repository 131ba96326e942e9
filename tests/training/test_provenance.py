import subprocess
from pathlib import Path

import pytest

from training import provenance


def git(project: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=a", "-c", "user.email=a@example.org")
    command = ["git", *identity, *arguments]
    return subprocess.check_output(command, cwd=project, text=True, timeout=30).strip()


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A repository that holds this package, and beside it a file that is none of its business."""
    (tmp_path / "training").mkdir()
    (tmp_path / "training" / "provenance.py").write_text("")
    (tmp_path / "README.md").write_text("")
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "--no-verify", "--message", "all")
    monkeypatch.setattr(provenance, "_PROJECT", tmp_path)
    return tmp_path


def test_the_commit_is_that_of_the_training_code(project: Path) -> None:
    (project / "README.md").write_text("changed, which changes no export")

    assert provenance.commit("training") == git(project, "rev-parse", "HEAD")


def test_code_that_differs_from_its_commit_says_so(project: Path) -> None:
    (project / "training" / "provenance.py").write_text("changed")

    assert provenance.commit("training") == git(project, "rev-parse", "HEAD") + "-dirty"


def test_an_installed_package_in_someone_elses_repository_has_no_commit(project: Path) -> None:
    git(project, "rm", "--quiet", "--cached", "training/provenance.py")

    assert provenance.commit("training") is None


def test_code_outside_of_any_repository_has_no_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(provenance, "_PROJECT", tmp_path)

    assert provenance.commit("training") is None
