import hashlib
import json
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from serving import passport
from serving.engine.repository import (
    ModelFolder,
    Repository,
    check_passport,
    is_model_name,
    is_version,
)
from serving.errors import InvalidArgument, LoadFailed, NotFound
from serving.settings import PassportPolicy

OFF, WARN, REQUIRE = PassportPolicy.OFF, PassportPolicy.WARN, PassportPolicy.REQUIRE


def write(path: Path, content: bytes | str = b"") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A model `m` with version 1, in the repository `tmp_path / "models"`."""
    write(tmp_path / "models/m/1/model.onnx", b"graph")
    return tmp_path / "models/m"


def find(model: Path) -> ModelFolder:
    return Repository([model.parent]).find(model.name)


def write_passport(folder: Path, /, **changes: object) -> None:
    digest = passport.file_sha256(folder / "model.onnx")
    proof = {
        "schema": passport.SCHEMA,
        "model": folder.parent.name,
        "version": int(folder.name),
        "files": {"model.onnx": digest},
        "weights_sha256": digest,
        "architecture": "mlp",
        "parameters": 1,
        "recipe": "r",
        "seed": 0,
        "dataset": {"name": "d", "sha256": digest},
        "accuracy": {"value": 1, "n": 1, "checkpoint": 1},
        "parity": {
            "absolute_tolerance": 1e-5,
            "relative_tolerance": 0,
            "batches": [{"batch_size": 1, "samples": "real", "max_absolute": 0, "max_relative": 0}],
        },
        "opset": 17,
        "created": "2025-01-01T00:00:00Z",
        "versions": {},
    }
    write(folder / passport.FILENAME, json.dumps(proof | changes))


def test_models_of_all_repositories_are_listed(tmp_path: Path) -> None:
    for folder in ("a/resnet", "a/bert", "b/mnist", "a/.git", "a/.tmp-x", "b/back\\slash"):
        (tmp_path / folder).mkdir(parents=True)
    write(tmp_path / "a/README.md")

    assert Repository([tmp_path / "a", tmp_path / "b"]).names() == ["bert", "mnist", "resnet"]


def test_versions_are_the_folders_that_are_positive_numbers(model: Path) -> None:
    for name in ("10", "2", "003", "0", "abc", "1a", "-1", "1.0", ".5", "٣", "9" * 40):
        (model / name).mkdir()
    write(model / "7")  # a file

    assert find(model).versions == (1, 2, 10)


def test_the_configuration_is_read_with_its_place(model: Path) -> None:
    write(model / "config.pbtxt", "name: 'é'")

    folder = find(model)

    assert folder.config_text == "name: 'é'"
    assert folder.source.at("name") == f"{model}/config.pbtxt:1"


def test_a_model_needs_no_configuration(model: Path) -> None:
    folder = find(model)

    assert folder.config_text is None
    assert folder.source.at("name") == str(model)
    assert folder.filenames(1) == ["model.onnx"]
    assert folder.version_path(1) == model / "1"


def test_what_changes_on_disk_is_seen_at_once(model: Path) -> None:
    repository = Repository([model.parent])
    assert repository.find("m").versions == (1,)

    write(model / "2/model.onnx")
    write(model.parent / "new/1/model.onnx")

    assert repository.find("m").versions == (1, 2)
    assert repository.names() == ["m", "new"]


def test_an_unknown_model_is_not_found(model: Path) -> None:
    with pytest.raises(NotFound, match="Request for unknown model: 'other' is not found"):
        Repository([model.parent]).find("other")


@pytest.mark.parametrize(
    "name", ["", ".", "..", ".git", "a/b", "../m", "/etc", "a\\b", "a\0", "\n"]
)
def test_a_name_that_is_no_models_is_refused(model: Path, name: str) -> None:
    with pytest.raises(InvalidArgument, match="is not a model name"):
        Repository([model.parent]).find(name)


def test_a_model_in_two_repositories_is_refused_and_both_are_named(tmp_path: Path) -> None:
    for folder in ("a/m", "b/m", "b/n"):
        (tmp_path / folder).mkdir(parents=True)
    repository = Repository([tmp_path / "a", tmp_path / "b"])

    with pytest.raises(LoadFailed) as failure:
        repository.find("m")

    assert f"{tmp_path}/a/m and {tmp_path}/b/m" in failure.value.message
    assert repository.find("n").name == "n"


def test_a_repository_that_is_named_twice_counts_once(model: Path) -> None:
    assert Repository([model.parent, model.parent]).find("m").name == "m"


@pytest.mark.parametrize(
    ("name", "reason"),
    [("missing", "no such folder"), ("file", "is not a folder"), ("loop", "cannot be read")],
)
def test_a_repository_that_cannot_be_read_is_named(tmp_path: Path, name: str, reason: str) -> None:
    write(tmp_path / "file")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")

    with pytest.raises(LoadFailed, match=f"{tmp_path}/{name}: {reason}"):
        Repository([tmp_path / name]).names()


def test_links_inside_a_repository_are_followed(model: Path) -> None:
    # So a Kubernetes volume is made: everything is a link into a folder that is swapped.
    volume = model.parent / "..2025_01_01"
    write(volume / "config.pbtxt", "max_batch_size: 8")
    write(volume / "labels.txt", "a\n")
    (model.parent / "..data").symlink_to(volume.name)
    (model / "config.pbtxt").symlink_to("../..data/config.pbtxt")
    (model / "labels.txt").symlink_to("../..data/labels.txt")
    (model / "2").symlink_to("1")
    (model.parent / "same").symlink_to("m")

    assert find(model).config_text == "max_batch_size: 8"
    assert find(model).versions == (1, 2)
    assert find(model).labels("labels.txt") == ("a",)
    assert Repository([model.parent]).find("same").versions == (1, 2)


@pytest.mark.parametrize("link", ["models/m/2", "models/m/config.pbtxt", "models/other"])
def test_links_out_of_a_repository_are_refused(tmp_path: Path, model: Path, link: str) -> None:
    target = tmp_path / "elsewhere"
    write(target) if link.endswith("pbtxt") else target.mkdir()
    (tmp_path / link).symlink_to(target)
    name = "other" if link.endswith("other") else "m"

    with pytest.raises(LoadFailed) as failure:
        Repository([model.parent]).find(name)

    assert f"{tmp_path}/{link}: leads to {target}, outside" in failure.value.message


def test_a_repository_may_itself_be_a_link(tmp_path: Path, model: Path) -> None:
    (tmp_path / "link").symlink_to(model.parent)

    assert Repository([tmp_path / "link"]).find("m").versions == (1,)


def test_links_that_lead_nowhere_or_in_circles_are_refused(model: Path) -> None:
    (model / "config.pbtxt").symlink_to("gone")
    with pytest.raises(LoadFailed, match=r"config\.pbtxt: cannot be read"):
        find(model)

    (model / "config.pbtxt").unlink()
    (model / "config.pbtxt").symlink_to("config.pbtxt")
    with pytest.raises(LoadFailed, match=r"config\.pbtxt: cannot be "):
        find(model)


def test_a_configuration_that_is_no_text_is_refused(model: Path) -> None:
    write(model / "config.pbtxt", b"name: '\xff'")
    with pytest.raises(LoadFailed, match="byte 7 is not UTF-8"):
        find(model)

    (model / "config.pbtxt").unlink()
    (model / "config.pbtxt").mkdir()
    with pytest.raises(LoadFailed, match="cannot be read: Is a directory"):
        find(model)


@pytest.mark.parametrize(
    ("content", "labels"),
    [
        ("cat\ndog\n", ("cat", "dog")),
        ("cat\ndog", ("cat", "dog")),
        ("cat\r\ndog\r\n", ("cat", "dog")),
        ("cat\n\ndog\n", ("cat", "", "dog")),  # the line's number is the class
        ("Katze\u2028groß\n", ("Katze\u2028groß",)),
        ("\ufeffcat\n", ("cat",)),
        ("", ()),
    ],
)
def test_labels_are_one_a_line(model: Path, content: str, labels: tuple[str, ...]) -> None:
    write(model / "labels.txt", content)

    assert find(model).labels("labels.txt") == labels


def test_labels_that_are_no_text_are_refused(model: Path) -> None:
    write(model / "labels.txt", "zwölf".encode("latin-1"))
    with pytest.raises(LoadFailed, match=r"labels\.txt: byte 2 is not UTF-8"):
        find(model).labels("labels.txt")


@pytest.mark.parametrize("name", ["../secret", "/etc/hostname", "a/../../secret", "a\0b"])
def test_a_label_file_stays_in_the_models_folder(model: Path, name: str) -> None:
    write(model.parent / "secret", "s")

    with pytest.raises(LoadFailed, match="must lie in the model's folder"):
        find(model).labels(name)


def test_a_missing_label_file_is_named(model: Path) -> None:
    with pytest.raises(LoadFailed, match=r"m/labels\.txt: cannot be read: No such file"):
        find(model).labels("labels.txt")


@pytest.mark.parametrize("policy", [WARN, REQUIRE])
def test_a_version_that_its_passport_vouches_for_passes(
    model: Path, policy: PassportPolicy
) -> None:
    write_passport(model / "1")
    write(model / "1/.nfs0001")

    found, warnings = check_passport(find(model), 1, policy)

    assert found is not None
    assert found.architecture == "mlp"
    assert warnings == []


def tamper(model: Path) -> None:
    write_passport(model / "1")
    write(model / "1/model.onnx", b"another graph")


def add_a_file(model: Path) -> None:
    write_passport(model / "1")
    write(model / "1/sub/other.onnx")


def swap_labels(model: Path) -> None:
    write_passport(model / "1", labels_sha256=hashlib.sha256(b"no\nyes\n").hexdigest())
    write(model / "labels.txt", "yes\nno\n")


def take_anothers(model: Path) -> None:
    write_passport(model / "1", model="other", version=7)


def name_the_unnameable(model: Path) -> None:
    write_passport(model / "1", files={"a\0b": "0" * 64})


def scribble(model: Path) -> None:
    write(model / "1/passport.json", "{")


def nothing(model: Path) -> None:
    """The version has no passport."""


@pytest.mark.parametrize(
    ("spoil", "warning"),
    [
        (nothing, "it has no passport.json, so nothing is proven of it"),
        (tamper, "model.onnx: SHA-256 is "),
        (add_a_file, "sub/other.onnx: the passport does not vouch for it"),
        (swap_labels, "labels.txt: SHA-256 is "),
        (take_anothers, "its passport is that of model 'other' version 7"),
        (name_the_unnameable, "embedded null"),
        (scribble, "not a passport of schema"),
    ],
)
def test_what_is_not_proven_is_told_or_refused(
    model: Path, spoil: Callable[[Path], None], warning: str
) -> None:
    spoil(model)
    folder = find(model)

    _, warnings = check_passport(folder, 1, WARN)
    with pytest.raises(LoadFailed) as failure:
        check_passport(folder, 1, REQUIRE)

    assert len(warnings) == 1
    assert warnings[0].startswith("model 'm' version 1: ")
    assert warning in warnings[0]
    assert warnings[0] in failure.value.message


def test_without_a_policy_no_passport_is_read(model: Path) -> None:
    scribble(model)

    assert check_passport(find(model), 1, OFF) == (None, [])


@given(st.text())
def test_a_model_name_never_leaves_its_repository(name: str) -> None:
    if is_model_name(name):
        assert (Path("/repository") / name).parts == ("/", "repository", name)


@given(st.integers())
def test_a_version_is_spelled_one_way(number: int) -> None:
    assert is_version(str(number)) == (0 < number < 10**18)
    assert not is_version(f"0{number}")
    assert not is_version(f"+{number}")


def test_a_file_that_comes_and_goes_is_not_taken_for_a_pipe(model: Path) -> None:
    file, over = model / "1" / "labels.txt", threading.Event()

    def flicker() -> None:
        while not over.is_set():
            file.touch()
            file.unlink()

    thread = threading.Thread(target=flicker)
    thread.start()
    try:
        for _ in range(1500):
            assert find(model).versions == (1,)
    finally:
        over.set()
        thread.join()
