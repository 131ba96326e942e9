import re

import onnxruntime

from export import provenance


def test_versions_are_those_that_ran() -> None:
    assert provenance.versions()["onnxruntime"] == onnxruntime.__version__


def test_the_commit_is_a_hash_or_unknown() -> None:
    commit = provenance.commit()

    assert commit is None or re.fullmatch(r"[0-9a-f]{40}(-dirty)?", commit)
