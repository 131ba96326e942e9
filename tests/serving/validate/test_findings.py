"""What `penstock validate` finds beside single faults: several at once, passports, repositories."""

import json
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings

from serving.passport import file_sha256
from tests.serving.config.test_config_properties import mutated_texts
from tests.serving.validate.checking import FAULT, WARNING, check, found
from tests.serving.validate.repositories import (
    CONFIG,
    Break,
    append,
    both,
    content,
    fixed_inside,
    good,
    graph,
    onnx_file,
    rename,
    rewrite,
)

# What is done to the good model, and the findings that come of it, the faults first.
FINDINGS: list[tuple[Break, list[tuple[str, str, str]]]] = [
    (
        rename("1", "v1"),
        [(FAULT, "m", "no version to serve: the folder has none"), (WARNING, "m/v1", "to 1")],
    ),
    (
        rename("1/model.onnx", "1/model.ONNX"),
        [
            (FAULT, "m/1/model.onnx", "no such file"),
            (WARNING, "m/1/model.ONNX", "names are told apart by case: rename it to model.onnx"),
        ],
    ),
    (
        rename("1/model.onnx", "1/net.onnx"),
        [
            (FAULT, "m/1/model.onnx", "no such file"),
            (WARNING, "m/1/net.onnx", 'or write default_model_filename: "net.onnx"'),
        ],
    ),
    (
        append("version_policy { specific { versions: 2 } }\n"),
        [
            (FAULT, "m", "no version to serve: the folder has 1"),
            (WARNING, "m/config.pbtxt", "names 2, for which there is no folder"),
        ],
    ),
    (
        onnx_file(lambda: graph(batch=1)),
        [
            (
                FAULT,
                "m/config.pbtxt:3:1",
                "shape expected by the model is [1,2,2]: write max_batch",
            ),
            (FAULT, "m/config.pbtxt:3:1", "expected by the model is [1,3]: write max_batch"),
        ],
    ),
    # A server would stop at the first of these; the rest is told as well.
    (
        both(rewrite("dynamic_batching", "dynamic_batchin"), content("1/model.onnx", b"")),
        [
            (FAULT, "m/config.pbtxt:15:1", "has no field 'dynamic_batchin'"),
            (FAULT, "m/1/model.onnx", "it is empty"),
        ],
    ),
    (
        both(
            rewrite("dims: [ 3 ]", "dims: [ 4 ]"),
            append("optimization { priority: PRIORITY_MAX }\n"),
            rename("labels.txt", "classes.txt"),
        ),
        [
            (FAULT, "m/config.pbtxt:16:16", "'optimization.priority' is not honoured"),
            (FAULT, "m/config.pbtxt:12:11", "making complete shape [-1,4]): write dims: [ 3 ]"),
        ],
    ),
    (
        both(content("labels.txt", b"cat\n"), onnx_file(lambda: fixed_inside(fails=False))),
        [(FAULT, "m/1", "has the shape [1, 3]"), (WARNING, "m/labels.txt", "names 1 classes")],
    ),
]


@pytest.mark.parametrize(("spoil", "expected"), FINDINGS)
def test_everything_that_is_wrong_is_told_at_once(
    tmp_path: Path, spoil: Break, expected: list[tuple[str, str, str]]
) -> None:
    spoil(good(tmp_path))

    code, document = check(tmp_path)

    told = found(document, tmp_path)
    assert [one[:2] for one in told] == [one[:2] for one in expected]
    for (*_, message), (*_, part) in zip(told, expected, strict=True):
        assert part in message
    assert code == 1


@pytest.mark.parametrize("name", ["config.pbtext", "Config.pbtxt", "config.pbtxt.txt", "config.pb"])
def test_a_configuration_under_another_name_is_told_of(tmp_path: Path, name: str) -> None:
    rename("config.pbtxt", name)(good(tmp_path))

    code, document = check(tmp_path)

    assert found(document, tmp_path) == [
        (WARNING, f"m/{name}", "not read, as a configuration's name is config.pbtxt: rename it")
    ]
    assert code == 0


def test_a_copy_of_the_configuration_beside_it_is_nobodys_mistake(tmp_path: Path) -> None:
    folder = good(tmp_path)
    (folder / "config.pbtxt.old").write_text(CONFIG)
    (folder / "README.md").touch()
    (folder / "configs").mkdir()
    (tmp_path / ".git").mkdir()

    assert found(check(tmp_path)[1], tmp_path) == []


def test_what_is_wrong_in_each_version_that_is_served_is_told(tmp_path: Path) -> None:
    folder = good(tmp_path)
    for version in ("2", "3"):
        (folder / version).mkdir()
        (folder / version / "model.onnx").touch()
    append("version_policy { latest { num_versions: 2 } }\n")(folder)

    _, document = check(tmp_path)

    assert [place for _, place, _ in found(document, tmp_path)] == [
        "m/2/model.onnx",
        "m/3/model.onnx",
    ]
    assert document["models"][0]["versions"] == [2, 3]


def test_without_a_run_what_only_a_run_shows_is_not_told(tmp_path: Path) -> None:
    onnx_file(lambda: fixed_inside(fails=False))(good(tmp_path))

    assert found(check(tmp_path, "--no-run")[1], tmp_path) == []


def test_labels_that_were_swapped_after_the_export_are_told(tmp_path: Path) -> None:
    model = Path(__file__).parents[3] / "model_repository" / "cifar10-cnn"
    shutil.copytree(model, tmp_path / "cifar10-cnn")
    labels, path = (tmp_path / "cifar10-cnn" / name for name in ("labels.txt", "1/passport.json"))
    stated = json.loads(path.read_text()) | {"labels_sha256": file_sha256(labels)}
    path.write_text(json.dumps(stated))
    assert check(tmp_path, passports="require")[0] == 0

    labels.write_text("".join(reversed(labels.read_text().splitlines(keepends=True))))

    exit_code, document = check(tmp_path, passports="require")
    assert exit_code == 1
    [(severity, place, message)] = found(document, tmp_path)
    assert (severity, place) == (FAULT, "cifar10-cnn/1/passport.json")
    assert "labels.txt: SHA-256 is " in message


@pytest.mark.parametrize(
    ("policy", "severity", "code"), [("warn", WARNING, 0), ("require", FAULT, 1)]
)
def test_a_passport_is_asked_for_as_a_server_would_ask(
    tmp_path: Path, policy: str, severity: str, code: int
) -> None:
    good(tmp_path)

    exit_code, document = check(tmp_path, passports=policy)

    assert found(document, tmp_path) == [
        (
            severity,
            "m/1/passport.json",
            "model 'm' version 1: it has no passport.json, so nothing is proven of it",
        )
    ]
    assert exit_code == code


def test_a_model_in_two_repositories_is_told_once(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    good(first)
    good(second)
    good(second, "other")

    code, document = check(first, second)

    [(severity, place, message)] = found(document, tmp_path)
    assert (severity, place) == (FAULT, "a/m")
    assert f"it is in {first}/m and {second}/m; remove or rename all but one" in message
    assert [model["verdict"] for model in document["models"]] == ["faults", "good"]
    assert code == 1


def test_a_link_out_of_the_repository_is_told(tmp_path: Path) -> None:
    elsewhere = good(tmp_path / "elsewhere")
    (tmp_path / "models").mkdir()
    (tmp_path / "models/m").symlink_to(elsewhere)

    [(severity, place, message)] = found(check(tmp_path / "models")[1], tmp_path)

    assert (severity, place) == (FAULT, "models/m")
    assert f"leads to {elsewhere}, outside of the repository" in message


def test_a_repository_without_a_model_is_at_fault(tmp_path: Path) -> None:
    code, document = check(tmp_path)

    assert found(document, tmp_path) == [
        (FAULT, ".", "no model to serve; expected NAME/VERSION/model.onnx")
    ]
    assert code == 1


def test_a_models_folder_is_not_taken_for_a_repository(tmp_path: Path) -> None:
    folder = good(tmp_path)

    told = found(check(folder)[1], tmp_path)

    assert (WARNING, "m", f"looks like a model's folder: the repository may be {tmp_path}") in told


@settings(max_examples=60)
@given(text=mutated_texts())
def test_whatever_a_configuration_says_the_check_ends_in_a_report(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    folder = good(tmp_path_factory.mktemp("any"))
    (folder / "config.pbtxt").write_text(text, encoding="utf-8", errors="replace")

    code, document = check(folder.parent)

    assert code == (1 if document["faults"] else 0)
    assert document["models_checked"] == 1


@pytest.mark.parametrize("name", ["0", "01", "1.0", "v1", "Version-1"])
def test_no_number_is_proposed_that_is_taken_or_no_version(tmp_path: Path, name: str) -> None:
    (good(tmp_path) / name).mkdir()

    [(severity, place, message)] = found(check(tmp_path)[1], tmp_path)

    assert (severity, place) == (WARNING, f"m/{name}")
    assert message.endswith("without leading zeros: rename it")
