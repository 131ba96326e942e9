"""The files that a load brings along are written below their folder, or not at all."""

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving.engine.override import check_files, unpack
from serving.errors import InvalidArgument

ODD = [
    "",
    ".",
    "..",
    "/",
    "/etc/passwd",
    "../1/model.onnx",
    "1/../../model.onnx",
    "1/./model.onnx",
    "1//model.onnx",
    "1/",
    "/1/model.onnx",
    "1\\model.onnx",
    "1/mo\0del",
    "1/mo\ndel",
    "0/model.onnx",
    "01/model.onnx",
    "-1/model.onnx",
    "1.0/model.onnx",
    "٣/model.onnx",
    "v1/model.onnx",
    "9" * 40 + "/model.onnx",
    "config.pbtxt",
    "C:/model.onnx",
    "/".join(["1"] * 33),
]
PARTS = st.sampled_from(["1", "2", "..", ".", "", "model.onnx", "a", "/", "\\", "~", "C:"])


@pytest.mark.parametrize("path", ODD)
def test_a_path_that_is_none_of_a_models_is_refused_and_named(path: str) -> None:
    with pytest.raises(InvalidArgument) as failure:
        check_files({path: b""}, has_config=True)
    assert failure.value.message.startswith(f"file:{path}: ")


def test_files_of_versions_and_beside_them_are_written(tmp_path: Path) -> None:
    files = {"1/model.onnx": b"one", "20/deep/weights": b"two", "labels.txt": b"cat"}
    check_files(files, has_config=True)
    unpack(files, tmp_path / "m")
    found = {
        path.relative_to(tmp_path / "m").as_posix(): path.read_bytes()
        for path in (tmp_path / "m").rglob("*")
        if path.is_file()
    }
    assert found == files


@given(st.lists(st.one_of(st.text(max_size=20), st.lists(PARTS, max_size=5).map("/".join))))
def test_whatever_they_are_called_files_stay_in_their_folder(paths: list[str]) -> None:
    files = dict.fromkeys(paths, b"x")
    with TemporaryDirectory() as scratch:
        folder = Path(scratch, "inner", "m")
        folder.parent.mkdir()
        try:
            check_files(files, has_config=True)
            unpack(files, folder)
        except InvalidArgument:
            pass
        else:
            assert sum(path.is_file() for path in folder.rglob("*")) == len(files)
        assert list(Path(scratch).iterdir()) == [folder.parent]
        assert set(folder.parent.iterdir()) <= {folder}
