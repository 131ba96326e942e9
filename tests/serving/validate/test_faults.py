"""Whatever is wrong with a model is told with its place, what each side says, and the cure."""

from pathlib import Path
from typing import Any

import pytest

from serving.dtypes import Datatype
from serving.engine.loading import Loader, close, default_backends
from serving.engine.repository import Repository
from serving.errors import ServingError
from serving.settings import PassportPolicy
from tests.serving.graphs import keep_weights_in, model
from tests.serving.validate.checking import FAULT, WARNING, check, found
from tests.serving.validate.repositories import (
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
        "has kind KIND_GPU but no GPUs are available (ONNX Runtime",
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
