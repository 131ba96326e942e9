"""Whatever is wrong with a model is told with its place, what each side says, and the cure."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given, settings

from serving.dtypes import Datatype
from serving.engine.loading import Loader, close, default_backends
from serving.engine.repository import Repository
from serving.errors import ServingError
from serving.settings import PassportPolicy
from serving.validate.command import validate
from tests.serving.config.test_config_properties import mutated_texts
from tests.serving.graphs import keep_weights_in, model
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

FAULT, WARNING = "fault", "warning"


def check(*arguments: object, passports: str = "off") -> tuple[int, dict[str, Any]]:
    """The exit code and the report."""
    given = [str(argument) for argument in arguments]
    policy = f"--passport-policy={passports}"
    result = CliRunner().invoke(validate, [*given, policy, "--format", "json"])
    return result.exit_code, json.loads(result.stdout)


def found(document: dict[str, Any], repository: Path) -> list[tuple[str, str, str]]:
    """Severity, place and message of each finding, the places as they are below `repository`."""
    findings = [*document["findings"], *(f for m in document["models"] for f in m["findings"])]
    return [
        (
            finding["severity"],
            ":".join(
                str(part)
                for part in (
                    Path(finding["file"]).relative_to(repository),
                    finding["line"],
                    finding["column"],
                )
                if part is not None
            ),
            finding["message"],
        )
        for finding in findings
    ]


def of_opset(number: int) -> Any:
    made = graph()
    made.opset_import[0].version = number
    return made


# What is done to the good model, and the one finding that comes of it.
ONE_FINDING: list[tuple[Break, str, str, str]] = [
    # The text of config.pbtxt.
    (append("max_batch: 8\n"), FAULT, "m/config.pbtxt:16:1", "did you mean 'max_batch_size'?"),
    (
        append("input {\n  name: 5\n}"),
        FAULT,
        "m/config.pbtxt:17:9",
        "Expected string but found: '5'",
    ),
    (content("config.pbtxt", b"name: '\xff'"), FAULT, "m/config.pbtxt", "byte 7 is not UTF-8"),
    # Its fields.
    (
        rewrite('name: "m"', 'name: "n"'),
        FAULT,
        "m/config.pbtxt:1:1",
        "unexpected directory name 'm' for model 'n', directory name must equal model name: "
        "write 'm', or leave the name out",
    ),
    (
        rewrite('"onnxruntime"', '"onnxrunner"'),
        FAULT,
        "m/config.pbtxt:2:1",
        "the embedded engine has no backend 'onnxrunner'; did you mean 'onnxruntime'?",
    ),
    (
        append("optimization { priority: PRIORITY_MAX }\n"),
        FAULT,
        "m/config.pbtxt:16:16",
        "'optimization.priority' is not honoured by the embedded engine: remove it",
    ),
    (
        rewrite("dynamic_batching { }", "dynamic_batching {\n  preferred_batch_size: [ 4, 16 ]\n}"),
        FAULT,
        "m/config.pbtxt:16:30",
        "preferred size must be <= max batch size, got 16 with max_batch_size: 8",
    ),
    (
        append('parameters { key: "execution_mode"\n  value { string_value: "yes" } }\n'),
        FAULT,
        "m/config.pbtxt:16:14",
        "parameter 'execution_mode' is 'yes', expected 0 (sequential) or 1 (parallel)",
    ),
    (
        append("instance_group { count: 1 kind: KIND_GPU }\n"),
        FAULT,
        "m/config.pbtxt:16:27",
        "no GPUs are available to ONNX Runtime: write KIND_CPU, or KIND_AUTO",
    ),
    # The configuration and the graph.
    (
        rewrite("TYPE_UINT8", "TYPE_FP32"),
        FAULT,
        "m/config.pbtxt:6:3",
        "configuration expects datatype TYPE_FP32 for input 'image', model provides TYPE_UINT8: "
        "write data_type: TYPE_UINT8",
    ),
    (
        rewrite("dims: [ 2, 2 ]", "dims: [ -1, 2, 2 ]"),
        FAULT,
        "m/config.pbtxt:7:11",
        "the model expects 3 dimensions (shape [-1,2,2]) but the model configuration specifies 4",
    ),
    (
        rewrite('"scores"', '"score"'),
        FAULT,
        "m/config.pbtxt:10:3",
        "unexpected inference output 'score', allowed outputs are: scores; did you mean 'scores'?",
    ),
    # Labels.
    (
        rename("labels.txt", "label.txt"),
        FAULT,
        "m/labels.txt",
        "cannot be read: No such file or directory",
    ),
    (
        rewrite('"labels.txt"', '"../labels.txt"'),
        FAULT,
        "m/config.pbtxt:13:3",
        "'../labels.txt' leaves the model's folder: name a file inside it",
    ),
    (
        content("labels.txt", b"cat\ndog\n"),
        WARNING,
        "m/labels.txt",
        "names 2 classes, and output 'scores' has 3 (dims [3]): write one line for each class",
    ),
    (
        both(
            onnx_file(
                lambda: model(
                    {"image": (Datatype.UINT8, ["batch", 2, 2])},
                    {"scores": (Datatype.BYTES, ["batch", 3])},
                )
            ),
            rewrite("TYPE_FP32", "TYPE_STRING"),
        ),
        WARNING,
        "m/labels.txt",
        "labels of output 'scores', which is BYTES and cannot be classified",
    ),
    # Versions.
    (
        append("version_policy { specific { versions: [ 1, 7, 9 ] } }\n"),
        WARNING,
        "m/config.pbtxt",
        "version_policy.specific names 7, 9, for which there is no folder: add it",
    ),
    (
        append("version_policy { latest { num_versions: 0 } }\n"),
        FAULT,
        "m",
        "no version to serve: the folder has 1; versions are folders named 1, 2, …",
    ),
    # The model's file.
    (
        content("1/model.onnx", b"version https://git-lfs.github.com/spec/v1\n"),
        FAULT,
        "m/1/model.onnx",
        "it is a pointer of Git LFS in place of the model: run git lfs pull",
    ),
    (
        content("1/model.onnx", graph().SerializeToString()[:-10]),
        FAULT,
        "m/1/model.onnx",
        "it is no ONNX model, or not a whole one (",
    ),
    (
        onnx_file(lambda: of_opset(99)),
        FAULT,
        "m/1/model.onnx",
        "its graph is of opset 99 (ai.onnx), and this runtime knows up to",
    ),
    (
        onnx_file(lambda: keep_weights_in(graph(), "gone", 4)),
        FAULT,
        "m/1/model.onnx",
        "gone, which does not exist: copy it beside the model",
    ),
    (
        onnx_file(lambda: keep_weights_in(graph(), "../labels.txt", 1)),
        FAULT,
        "m/1/model.onnx",
        "in the file ../labels.txt, which leaves the version's folder: save the model with its",
    ),
    # The run.
    (
        onnx_file(lambda: fixed_inside(fails=False)),
        FAULT,
        "m/1",
        "output 'scores' of a batch of 2 rows has the shape [1, 3]: export the model so that every "
        "output keeps the batch dimension",
    ),
    (
        onnx_file(lambda: fixed_inside(fails=True)),
        WARNING,
        "m/1",
        "a run on zeros in a batch of 2 rows failed, so that requests may fail as well",
    ),
    (
        append(
            'model_warmup {\n  name: "w"\n  batch_size: 1\n'
            '  inputs { key: "image" value { data_type: TYPE_UINT8\n'
            '    dims: [ 2, 2 ] input_data_file: "gone" } } }\n'
        ),
        FAULT,
        "m/config.pbtxt:16",
        "failed to run warmup sample 'w': ",
    ),
    # Names that nothing looks for.
    (
        lambda folder: (folder / "v2").mkdir(),
        WARNING,
        "m/v2",
        "without leading zeros: rename it to 2",
    ),
    (content("2", b""), WARNING, "m/2", "a file, where a version is a folder"),
    (content("model.onnx", b""), WARNING, "m/model.onnx", "move it to 1/model.onnx"),
    (
        lambda folder: (folder.parent / "new.onnx").touch(),
        WARNING,
        "new.onnx",
        "not in a model's folder: move it to NAME/1/model.onnx",
    ),
    (
        lambda folder: (folder.parent / "config.pbtxt").touch(),
        WARNING,
        "config.pbtxt",
        "not in a model's folder: move it to NAME/config.pbtxt",
    ),
]


@pytest.mark.parametrize(("spoil", "severity", "place", "message"), ONE_FINDING)
def test_each_fault_is_told_with_its_place_and_the_cure(
    tmp_path: Path, spoil: Break, severity: str, place: str, message: str
) -> None:
    spoil(good(tmp_path))

    code, document = check(tmp_path)

    [(told, where, what)] = found(document, tmp_path)
    assert (told, where) == (severity, place)
    assert message in what
    assert code == (1 if severity == FAULT else 0)


def loads(repository: Path) -> bool:
    """Whether a server takes the model."""
    loader = Loader(default_backends(), PassportPolicy.OFF)
    try:
        plan = loader.plan(Repository([repository]), "m")
        for opened in loader.open(plan, plan.versions):
            close(opened.sessions)
    except ServingError:
        return False
    return True


@pytest.mark.parametrize(("spoil", "severity", "place", "message"), ONE_FINDING)
def test_what_is_told_as_a_fault_is_what_a_server_refuses(
    tmp_path: Path, spoil: Break, severity: str, place: str, message: str
) -> None:
    spoil(good(tmp_path))

    # The first request of two rows is what shows a server that the batch gets lost.
    loses_the_batch = "of a batch of 2 rows has the shape" in message
    assert loads(tmp_path) is (severity == WARNING or loses_the_batch)


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


@settings(max_examples=60, deadline=None)
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
