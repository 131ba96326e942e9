"""Names of objects that cannot be names of files are refused, whatever the machine."""

import pytest

from serving.storage.names import refusals

GOOD = ("a/1/model.onnx", "a/config.pbtxt", "a/2/.hidden", "a/2/ä b+%", "a/2/..x")


def test_names_of_files_are_not_refused() -> None:
    assert refusals(GOOD) == {}


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("a/../../x", "it must be relative"),
        ("..", "it must be relative"),
        ("a/1/./x", "it must be relative"),
        ("a//etc/passwd", "it must be relative"),
        ("/etc/passwd", "it must be relative"),
        ("", "it must be relative"),
        ("a/1\\x", "backslashes"),
        ("a/1/x\ny", "control characters"),
        ("a/1/x\0y", "control characters"),
        ("a/1/model.onnx/x", "'a/1/model.onnx' is an object, and a file cannot be a folder"),
    ],
)
def test_a_name_that_leads_elsewhere_is_refused(name: str, reason: str) -> None:
    refused = refusals((*GOOD, name))
    assert list(refused) == [name]
    assert reason in refused[name]


@pytest.mark.parametrize(
    "names",
    [
        ("a/1/model.ONNX", "a/1/model.onnx"),
        ("a/Deep/x", "a/deep/y"),
        ("a/Straße", "a/strasse"),
        ("a/\u00e9", "a/e\u0301"),
    ],
)
def test_of_names_that_are_one_on_some_machines_the_second_is_refused(
    names: tuple[str, str],
) -> None:
    [reason] = refusals(names).values()
    assert "by case alone" in reason


def test_what_is_a_folder_cannot_be_a_file_as_well() -> None:
    assert "a file cannot be a folder" in refusals(("a/1", "A/1/x"))["a/1"]
