"""The proof that travels with a version: read exactly, and held against the files beside it."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from serving.passport import Passport, PassportError, file_sha256, mismatches, read

MODEL = Path(__file__).parents[2] / "model_repository" / "digits-mlp" / "1"
EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

Edit = Callable[[dict[str, Any]], object]


@pytest.fixture
def document() -> dict[str, Any]:
    """A passport as export wrote it."""
    content: dict[str, Any] = json.loads((MODEL / "passport.json").read_text())
    return content


def written(folder: Path, document: Any) -> Path:
    path = folder / "passport.json"
    path.write_text(json.dumps(document))
    return path


def test_what_was_written_is_what_is_read(tmp_path: Path, document: dict[str, Any]) -> None:
    passport = read(written(tmp_path, document))
    # What the export that wrote it did not know yet has a meaning all the same.
    unknown = dict.fromkeys(
        (
            *("error", "translation", "likeness", "source", "rows", "variant", "engine"),
            "labels_sha256",
        )
    )
    complete = {"task": "classification"} | unknown | document
    assert passport.to_dict() == complete
    assert json.loads(passport.to_json()) == complete
    (tmp_path / "again.json").write_text(passport.to_json())
    assert read(tmp_path / "again.json") == passport


def test_fields_of_later_versions_are_let_be(tmp_path: Path, document: dict[str, Any]) -> None:
    passport = read(written(tmp_path, document | {"signed_by": "somebody"}))
    assert passport.model == "digits-mlp"


BROKEN: dict[str, tuple[Edit, str]] = {
    "another schema": (lambda d: d.update(schema="penstock.passport/2"), "schema: "),
    "no schema, another name": (lambda d: d.update(schema="other"), "schema: "),
    "a hash of labels that is none": (lambda d: d.update(labels_sha256="x"), "labels_sha256: "),
    "no files": (lambda d: d.update(files={}), "files: "),
    "a hash that is none": (lambda d: d["files"].update({"model.onnx": "abc"}), "files.model.onnx"),
    "neither a checkpoint nor a source": (lambda d: d.pop("recipe"), "recipe: missing, and so is"),
    "a source of which nothing is proven": (
        lambda d: d.update(source={"kind": "onnx", "name": "m.onnx"}, parity=None),
        "rows: neither this nor parity",
    ),
    "no accuracy": (lambda d: d.pop("accuracy"), "accuracy: "),
    "an accuracy above one": (lambda d: d["accuracy"].update(value=1.5), "accuracy.value: "),
    "no samples": (lambda d: d["accuracy"].update(n=0), "accuracy.n: "),
    "a difference that is no number": (
        lambda d: d["parity"]["batches"][0].update(max_absolute=float("nan")),
        "parity.batches.0.max_absolute: ",
    ),
    "a version of zero": (lambda d: d.update(version=0), "version: "),
}


@pytest.mark.parametrize(("edit", "place"), BROKEN.values(), ids=BROKEN.keys())
def test_what_does_not_fit_the_schema_is_refused_by_its_place(
    tmp_path: Path, document: dict[str, Any], edit: Edit, place: str
) -> None:
    edit(document)
    path = written(tmp_path, document)
    with pytest.raises(PassportError) as caught:
        read(path)
    assert str(path) in str(caught.value)
    assert place in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"\xff\xfe"])
def test_what_is_no_document_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "passport.json"
    path.write_bytes(content)
    with pytest.raises(PassportError, match="not a passport of schema"):
        read(path)


def test_a_hash_is_that_of_the_whole_file(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    assert file_sha256(tmp_path / "empty") == EMPTY


def passport_for(document: dict[str, Any], **files: str) -> Passport:
    return Passport.model_validate(document | {"files": files})


def test_files_that_are_as_they_were_have_no_mismatch(document: dict[str, Any]) -> None:
    assert mismatches(Passport.model_validate(document), MODEL) == []


def test_each_file_that_is_not_as_it_was_is_told_of(
    tmp_path: Path, document: dict[str, Any]
) -> None:
    (tmp_path / "same").touch()
    (tmp_path / "other").write_text("changed")
    (tmp_path / "folder").mkdir()
    files = dict.fromkeys(("same", "other", "gone", "folder", "../outside"), EMPTY)
    (tmp_path.parent / "outside").touch()
    faults = mismatches(passport_for(document, **files), tmp_path)
    assert faults == [
        f"other: SHA-256 is {file_sha256(tmp_path / 'other')}, the passport says {EMPTY}",
        "gone: the passport vouches for it, but the file is missing",
        "folder: the passport vouches for it, but the file is missing",
        "../outside: the passport names a file outside of the version folder",
    ]
