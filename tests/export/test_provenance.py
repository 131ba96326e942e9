from importlib.metadata import version

from export import provenance
from training import provenance as training_provenance


def test_the_versions_are_those_of_the_libraries_that_made_the_model() -> None:
    versions = provenance.versions()

    # Which CUDA it was built for, if any, the package does not say of all builds.
    assert versions["torch"].partition("+")[0] == version("torch").partition("+")[0]
    assert versions.keys() >= {"python", "penstock", "onnx", "onnxscript", "onnxruntime", "numpy"}


def test_the_commit_covers_all_the_code_that_decides_what_is_exported() -> None:
    assert provenance.commit() == training_provenance.commit("training", "export", "serving")
