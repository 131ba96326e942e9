"""ONNX files of any origin: what is published, and what is stopped by which words."""

import json
import os
import re
import resource
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result
from onnx import TensorProto, helper, numpy_helper

from export import importing
from export.errors import FileRefused, GateRefused, Incompatible, RowsRefused, VersionExists
from export.import_command import import_
from export.job import ImportJob
from export.onnx_model import OnnxModel
from export.publish import Published
from serving import passport
from tests.export.onnx_graphs import WEIGHTS, external, linear, model, node, single, written


@pytest.fixture
def take(tmp_path: Path) -> Callable[..., Published]:
    """Imports a model into a repository of the test's own."""

    def run(made: onnx.ModelProto | Path, **options: Any) -> Published:
        source = made if isinstance(made, Path) else written(tmp_path / "source", made)
        return importing.import_model(ImportJob(source, tmp_path / "models", **options))

    return run


Take = Callable[..., Published]


def config(published: Published) -> str:
    return (published.folder.parent / "config.pbtxt").read_text()


def test_a_model_is_published_with_all_that_was_found_out(tmp_path: Path, take: Take) -> None:
    published = take(linear())

    proof = passport.read(published.folder / "passport.json")
    assert published.folder == tmp_path / "models" / "made" / "1"
    assert passport.mismatches(proof, published.folder) == []
    assert proof.source is not None
    assert (proof.source.kind, proof.source.name) == ("onnx", "made.onnx")
    assert proof.source.sha256 == passport.file_sha256(tmp_path / "source" / "made.onnx")
    assert (proof.opset, proof.accuracy, proof.dataset) == (18, None, None)
    assert proof.versions.keys() >= {"onnx", "onnxruntime"}
    assert proof.rows is not None
    assert proof.rows.independent
    assert [each.batch_size for each in proof.rows.batches] == [1, 2, 7, 64]
    assert "max_batch_size: 64" in config(published)


def test_the_next_import_is_the_next_version_and_keeps_the_batch_size(take: Take) -> None:
    take(linear(), max_batch_size=5)
    published = take(linear())

    assert published.passport.version == 2
    assert published.passport.rows is not None
    assert published.passport.rows.batches[-1].batch_size == 5


def test_a_version_that_exists_is_refused_before_anything_is_tried(
    tmp_path: Path, take: Take
) -> None:
    take(linear())
    broken = tmp_path / "made.onnx"
    broken.write_bytes(b"none")

    with pytest.raises(VersionExists, match="the next free one is 2"):
        take(broken, version=1)


def test_a_model_that_does_not_fit_its_folder_is_refused(take: Take) -> None:
    take(linear())

    with pytest.raises(Incompatible, match="describes another model"):
        take(single("Relu"))


def test_weights_outside_of_the_file_come_along(tmp_path: Path, take: Take) -> None:
    def move(file: Path) -> None:
        (file.parent / "data").mkdir()
        file.rename(file.parent / "data" / "weights.bin")

    published = take(external(tmp_path / "source", "data/weights.bin", move))

    sizes = [(published.folder / name).stat().st_size for name in published.passport.files]
    assert published.size == sum(sizes)
    assert (published.folder / "data" / "weights.bin").read_bytes() == WEIGHTS.tobytes()
    assert set(published.passport.files) == {"model.onnx", "data/weights.bin"}
    assert passport.mismatches(published.passport, published.folder) == []


def link_to_secret(file: Path) -> None:
    secret = file.parent.parent / "secret"
    file.rename(secret)
    file.symlink_to(secret)


def link_folder(file: Path) -> None:
    elsewhere = file.parent.parent / "elsewhere"
    elsewhere.mkdir()
    file.rename(elsewhere / "weights.bin")
    (file.parent / "data").symlink_to(elsewhere)


def take_a_name(file: Path) -> None:
    file.rename(file.with_name("passport.json"))


def make_pipe(file: Path) -> None:
    file.unlink()
    os.mkfifo(file)


@pytest.mark.parametrize(
    ("location", "edit", "named"),
    [
        ("../secret", link_to_secret, "'../secret', which leaves the model's folder"),
        ("data/../../secret", link_to_secret, "which leaves the model's folder"),
        ("/etc/hostname", link_to_secret, "'/etc/hostname', which leaves the model's folder"),
        ("..\\secret", link_to_secret, "which leaves the model's folder"),
        ("C:weights.bin", link_to_secret, "which leaves the model's folder"),
        ("weights.bin", link_to_secret, "is a link, which could lead anywhere"),
        ("data/weights.bin", link_folder, "is a link, which could lead anywhere"),
        ("weights.bin", Path.unlink, "does not exist, but the model keeps weights there"),
        ("weights.bin", make_pipe, "is not a plain file"),
        ("weights.bin", lambda file: file.write_bytes(b"few"), "made.onnx: .*"),
        ("passport.json", take_a_name, "a name that a version has for a file of its own"),
        ("passport.json/weights.bin", link_to_secret, "a name that a version has for a file of"),
        ("model.onnx/weights.bin", link_to_secret, "a name that a version has for a file of its"),
        ("made.onnx/weights.bin", link_to_secret, r"cannot be read \(Not a directory\)"),
        ("long" * 100, link_to_secret, r"cannot be read \(File name too long\)"),
        ("", link_to_secret, "says '' of where its weights are"),
        (".", link_to_secret, "says '.' of where its weights are"),
    ],
)  # fmt: skip
def test_weights_that_are_not_plainly_beside_the_model_are_refused(
    tmp_path: Path, take: Take, location: str, edit: Callable[[Path], object], named: str
) -> None:
    source = external(tmp_path / "source", location, edit)

    with pytest.raises(FileRefused, match=named):
        take(source)

    assert not (tmp_path / "models").exists()


def of_bytes(made: bytes, text: bytes) -> bytes:
    """The file of a model with bytes that are not UTF-8 in the place of this text."""
    assert text in made
    return made.replace(text, b"\xff" * len(text))


def test_a_location_that_is_no_text_is_refused(tmp_path: Path, take: Take) -> None:
    source = external(tmp_path / "source", "weights.bin")
    source.write_bytes(of_bytes(source.read_bytes(), b"weights.bin"))

    with pytest.raises(FileRefused, match="of where its weights are: export it again"):
        take(source)


def test_a_name_that_is_no_text_is_refused(tmp_path: Path, take: Take) -> None:
    source = written(tmp_path / "source", linear(x=("rows", 3), y=("rows", 2)))
    source.write_bytes(of_bytes(source.read_bytes(), b"rows"))

    with pytest.raises(FileRefused, match=r"made\.onnx: a name in it is no text"):
        take(source)


def test_a_file_whose_own_name_is_no_text_has_a_passport_that_can_be_read(
    tmp_path: Path, take: Take
) -> None:
    source = written(tmp_path, linear()).rename(tmp_path / os.fsdecode(b"\xff.onnx"))

    published = take(source, name="named")

    assert published.passport.source is not None
    assert published.passport.source.name == "\N{REPLACEMENT CHARACTER}.onnx"


def test_a_copy_that_the_disk_has_no_room_for_is_no_fault_of_the_file(
    tmp_path: Path, take: Take
) -> None:
    source = written(tmp_path / "source", linear())
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.raises(FileRefused, match=r"has no room for a copy of .*made\.onnx"):
            take(source)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_file_that_is_too_large_to_be_read_is_not_copied_first(
    tmp_path: Path, take: Take
) -> None:
    source = written(tmp_path / "source", linear())
    with source.open("r+b") as file:
        file.truncate(2**31)  # of which the file system keeps nothing

    with pytest.raises(FileRefused, match=r"made\.onnx: 2\.15 GB are more than one .* beside it"):
        take(source)


def test_a_second_copy_that_the_disk_has_no_room_for_is_told_in_a_sentence(
    tmp_path: Path, take: Take
) -> None:
    model = linear()
    model.graph.output[0].type.tensor_type.ClearField("shape")
    source = written(tmp_path / "source", model)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    resource.setrlimit(resource.RLIMIT_FSIZE, (source.stat().st_size, hard))
    try:
        with pytest.raises(FileRefused, match=r"has no room for another copy of it .*TMPDIR"):
            take(source)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_link_that_somebody_named_is_followed(tmp_path: Path, take: Take) -> None:
    blob = written(tmp_path / "blobs", linear(), "0123")
    link = tmp_path / "linked.onnx"
    link.symlink_to(blob)

    published = take(link)

    assert not (published.folder / "model.onnx").is_symlink()
    assert published.passport.model == "linked"


def in_a_branch() -> onnx.ModelProto:
    """A custom operator that only one branch of an If needs."""

    def branch(operator: str, domain: str) -> Any:
        out = helper.make_tensor_value_info("out", TensorProto.FLOAT, None)
        return helper.make_graph(
            [node(operator, ["x"], ["out"], name="deep", domain=domain)], operator, [], [out]
        )

    yes = numpy_helper.from_array(np.array(True), "yes")
    branches = {"then_branch": branch("Relu", ""), "else_branch": branch("Warp", "my.ops")}
    return model(
        [node("If", ["yes"], ["y"], **branches)],
        y=("N", 3),
        initializers=[yes],
        opsets=(("", 18), ("my.ops", 1)),
    )


def of_unknown_elements() -> onnx.ModelProto:
    made = single("Relu")
    made.graph.input[0].type.tensor_type.elem_type = 999
    return made


def maps_of_probabilities(**classes: Any) -> onnx.ModelProto:
    """What converters make of a classifier: a map of each row, by class."""
    ml = {"domain": "ai.onnx.ml"}
    nodes = [
        node("Normalizer", ["x"], ["normal"], norm="L1", **ml),
        node("ZipMap", ["normal"], ["y"], **ml, **classes),
    ]
    made = model(nodes, opsets=(("ai.onnx.ml", 1),))
    pairs = made.graph.output[0].type.sequence_type.elem_type.map_type
    pairs.key_type = TensorProto.INT64 if "classlabels_int64s" in classes else TensorProto.STRING
    pairs.value_type.CopyFrom(helper.make_tensor_type_proto(TensorProto.FLOAT, []))
    return made


def of_maps() -> onnx.ModelProto:
    """One that is given maps."""
    vectors = node("DictVectorizer", ["x"], ["y"], domain="ai.onnx.ml", int64_vocabulary=[0, 1])
    made = model([vectors], opsets=(("ai.onnx.ml", 1),))
    kind = made.graph.input[0].type.map_type
    kind.key_type = TensorProto.INT64
    kind.value_type.CopyFrom(helper.make_tensor_type_proto(TensorProto.FLOAT, []))
    return made


CUSTOM = (("", 18), ("my.ops", 1))
UNFIT: dict[str, tuple[onnx.ModelProto, str]] = {
    "a custom operator": (
        single("Warp", opsets=CUSTOM, attributes={"domain": "my.ops"}),
        "node 'only' with the operator Warp of the domain my.ops is unknown",
    ),
    "one in a branch": (in_a_branch(), "node 'deep' with the operator Warp of the domain my.ops"),
    "an unknown operator": (
        single("Warp"),
        "node 'only' with the operator Warp of the domain ai.onnx is unknown",
    ),
    "an operator of a later opset": (
        single("Gelu"),
        "operator Gelu of the domain ai.onnx exists since opset 20, but the file states 18",
    ),
    "an operator for other types": (
        model(
            [
                node("Cast", ["x"], ["half"], to=TensorProto.BFLOAT16),
                node("Sin", ["half"], ["wave"], name="sine"),
                node("Cast", ["wave"], ["y"], to=TensorProto.FLOAT),
            ],
            y=("N", 3),
            opsets=(("", 22),),
        ),
        "cannot execute node 'sine' with the operator Sin of the domain ai.onnx",
    ),
    "an operator made of others": (
        single("Bernoulli", opsets=(("", 22),)),
        "cannot execute a node with the operator RandomUniformLike, of which another is made, on",
    ),
    "an old opset": (single("Relu", opsets=(("", 6),)), "is of opset 6; ONNX Runtime .* reads 7 "),
    "a new opset": (single("Relu", opsets=(("", 60),)), "is of opset 60; ONNX Runtime .* reads 7 "),
    "no opset": (single("Relu", opsets=()), "states no opset"),
    "a new file format": (single("Relu", ir=60), "is of IR version 60; ONNX Runtime .* reads "),
    "shapes that contradict each other": (linear(x=("N", 4)), "is not valid ONNX: "),
    "elements of an unknown type": (of_unknown_elements(), "is not valid ONNX: .*999"),
    "maps": (of_maps(), "'x' is of type map.*, which the protocol cannot carry; export it with te"),
    "integers of 4 bits": (
        model(
            [node("Cast", ["x"], ["y"], to=TensorProto.FLOAT)],
            y=("N", 3),
            kind=TensorProto.INT4,
            opsets=(("", 21),),
        ),
        r"'x' is of type tensor\(int4\), which the protocol cannot carry; have the graph cast it",
    ),
    "an input larger than memory": (
        single("Relu", x=("N", 2**40), y=("N", 2**40)),
        "a row of its inputs cannot be held in memory",
    ),
    "an input larger than addresses": (
        single("Relu", x=("N", 2**62, 2**62), y=("N", 2**62, 2**62)),
        "a row of its inputs cannot be held in memory",
    ),
    "an input of any number of dimensions": (
        single("Relu", x=None, y=None), "'x' has no shape, and none follows from the others",
    ),
    "an input from nowhere": (
        model([node("Relu", ["nowhere"], ["y"])], y=("N", 3)),
        "is not valid ONNX: ",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("made", "named"), UNFIT.values(), ids=UNFIT)
def test_a_model_that_onnx_runtime_cannot_execute_is_refused_by_the_reason(
    tmp_path: Path, take: Take, made: onnx.ModelProto, named: str
) -> None:
    with pytest.raises(FileRefused, match=f"made.onnx: .*{named}"):
        take(made)

    assert not (tmp_path / "models").exists()


@pytest.mark.parametrize(
    ("content", "named"),
    [
        (b"", r"not a whole one \(0 bytes\)"),
        (linear().SerializeToString()[:-20], "no ONNX model, or not a whole one"),
        (b"<html>404</html>", "no ONNX model, or not a whole one"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "run git lfs pull"),
        (b"\x1c\0\0\0ORTM\0\0\0\0", "of ONNX Runtime's own format: import the ONNX file"),
    ],
)
def test_a_file_that_is_no_whole_model_is_refused(
    tmp_path: Path, take: Take, content: bytes, named: str
) -> None:
    source = tmp_path / "made.onnx"
    source.write_bytes(content)

    with pytest.raises(FileRefused, match=named):
        take(source)


def test_damaged_weights_are_refused(take: Take) -> None:
    damaged = linear()
    weights = numpy_helper.to_array(damaged.graph.initializer[0]).copy()
    weights[0, 0] = np.nan
    damaged.graph.initializer[0].CopyFrom(numpy_helper.from_array(weights, "weights"))

    with pytest.raises(GateRefused, match=r"made\.onnx: y is NaN, which is no answer") as refused:
        take(damaged)

    assert "give it rows of real ones by --sample" in str(refused.value)


def test_a_dimension_that_holds_nothing_is_refused_by_the_name_of_the_file(take: Take) -> None:
    with pytest.raises(GateRefused, match=r"made\.onnx: model input 'x' dimension must be"):
        take(single("Relu", x=("N", 0), y=("N", 0)))


def mean_over_rows() -> onnx.ModelProto:
    axes = numpy_helper.from_array(np.array([0]), "axes")
    nodes = [node("ReduceMean", ["x", "axes"], ["mean"]), node("Sub", ["x", "mean"], ["y"])]
    return model(nodes, y=("N", 3), initializers=[axes])


def one_row_only() -> onnx.ModelProto:
    """One whose batch is called variable and is fixed inside."""
    shape = numpy_helper.from_array(np.array([1, 3]), "shape")
    return model([node("Reshape", ["x", "shape"], ["y"])], y=("N", 3), initializers=[shape])


def first_row_only() -> onnx.ModelProto:
    bounds = [numpy_helper.from_array(np.array([at]), name) for at, name in ((0, "a"), (1, "b"))]
    return model([node("Slice", ["x", "a", "b"], ["y"])], y=("M", 3), initializers=bounds)


def as_many_as_the_largest() -> onnx.ModelProto:
    """Each row as long as the largest number of the batch says."""
    zero, one = (numpy_helper.from_array(np.array(at), name) for at, name in ((0, "a"), (1, "b")))
    first, last = (numpy_helper.from_array(np.array([at]), f"axis{at}") for at in (0, 1))
    nodes = [
        node("ReduceMax", ["x"], ["largest"], keepdims=0),
        node("Range", ["a", "largest", "b"], ["range"]),
        node("Unsqueeze", ["range", "axis0"], ["row"]),
        node("ReduceSum", ["x", "axis1"], ["sum"]),
        node("Add", ["row", "sum"], ["added"]),
        node("Cast", ["added"], ["y"], to=TensorProto.FLOAT),
    ]
    weights = [zero, one, first, last]
    return model(nodes, y=("N", "K"), kind=TensorProto.INT64, initializers=weights)


DEPENDENT = {
    "the lengths of others": (as_many_as_the_largest(), r"y has the shape \[1, \d+\] for one row"),
    "its rows": (mean_over_rows(), r"y\[.*at batch size 2, .*the row alone"),
    "a batch": (one_row_only(), r"'y' is \[1, 3\], whose first dimension is fixed"),
    "an answer": (first_row_only(), r"y has the shape \[1, 3\] for a batch of 2"),
}


@pytest.mark.parametrize(("made", "named"), DEPENDENT.values(), ids=DEPENDENT)
def test_a_model_that_mixes_or_loses_its_rows_is_published_without_batching_and_says_why(
    take: Take, made: onnx.ModelProto, named: str
) -> None:
    published = take(made)

    proof = published.passport.rows
    assert proof is not None
    assert not proof.independent
    assert re.search(named, proof.reason)
    assert "max_batch_size: 0" in config(published)
    assert "Not to be batched" in config(published)


def test_batches_that_were_asked_for_are_refused_where_rows_depend_on_each_other(
    tmp_path: Path, take: Take
) -> None:
    with pytest.raises(RowsRefused, match="batches of 8 were asked for, but y"):
        take(mean_over_rows(), max_batch_size=8)

    assert not (tmp_path / "models").exists()


def test_an_output_that_states_no_shape_has_the_one_that_follows(take: Take) -> None:
    published = take(linear(y=None))

    assert published.passport.rows is not None
    assert published.passport.rows.independent
    assert "max_batch_size: 64" in config(published)
    assert [path.name for path in sorted(published.folder.iterdir())] == [
        "model.onnx",
        "passport.json",
    ]


@pytest.mark.parametrize(
    ("classes", "labels"),
    [
        ({"classlabels_int64s": [7, 0, 1]}, ["7", "0", "1"]),
        ({"classlabels_strings": ["cat", "dog", "Ähre"]}, ["cat", "dog", "Ähre"]),
        ({"classlabels_strings": ["cat", "", "two\nlines"]}, None),
    ],
)
def test_maps_by_class_become_a_tensor_with_labels(
    tmp_path: Path, take: Take, classes: dict[str, Any], labels: list[str] | None
) -> None:
    made = maps_of_probabilities(**classes)
    source = written(tmp_path / "source", made)

    published = take(source)

    tried = OnnxModel(published.folder / "model.onnx")({"x": np.array([[1, 1, 2]], np.float32)})
    np.testing.assert_allclose(tried["y"], [[0.25, 0.25, 0.5]])
    assert published.passport.rows is not None
    assert published.passport.rows.independent
    assert published.passport.source is not None
    assert published.passport.source.sha256 == passport.file_sha256(source)
    assert passport.mismatches(published.passport, published.folder) == []
    file = published.folder.parent / "labels.txt"
    assert (file.read_text("utf-8").splitlines() if file.exists() else None) == labels
    assert ('  label_filename: "labels.txt"' in config(published).splitlines()) == bool(labels)


def labelled(rows: str | int) -> onnx.ModelProto:
    """What onnxmltools makes of LightGBM: one label is stated, and each row has one."""
    weights = {"coefficients": [1.0, 0.0, 0.0, 0.0, 1.0, 0.0], "intercepts": [0.0, 0.0]}
    nodes = [
        node("LinearClassifier", ["x"], ["best", "scores"], domain="ai.onnx.ml", **weights,
             classlabels_ints=[4, 5]),
        node("Identity", ["best"], ["same"]),
        node("Cast", ["same"], ["label"], to=TensorProto.INT64),
        node("Identity", ["scores"], ["y"]),
    ]  # fmt: skip
    made = model(nodes, x=(rows, 3), y=(rows, 2), opsets=(("", 18), ("ai.onnx.ml", 1)))
    made.graph.output.append(helper.make_tensor_value_info("label", TensorProto.INT64, [1]))
    return made


def test_one_label_that_is_stated_for_any_number_of_rows_is_one_for_each(take: Take) -> None:
    published = take(labelled("N"))

    rows = np.array([[1, 0, 0], [0, 1, 0], [2, 1, 0]], np.float32)
    tried = OnnxModel(published.folder / "model.onnx")({"x": rows})
    assert tried["label"].tolist() == [4, 5, 4]
    assert published.passport.rows is not None
    assert published.passport.rows.independent
    assert "max_batch_size: 64" in config(published)


def test_one_label_of_one_row_stays_what_it_is(take: Take) -> None:
    made = labelled(1)

    assert (take(made).folder / "model.onnx").read_bytes() == made.SerializeToString()


def in_a_circle() -> onnx.ModelProto:
    made = model([node("Identity", ["b"], ["a"]), node("Identity", ["a"], ["b"])], y=("N", 3))
    made.graph.output.append(helper.make_tensor_value_info("a", TensorProto.INT64, [1]))
    return made


def of_nothing() -> onnx.ModelProto:
    zip_map = node("ZipMap", [], [], domain="ai.onnx.ml", classlabels_int64s=[0])
    return model([zip_map, node("Cast", [], ["y"], to=1)], y=(1,))


@pytest.mark.parametrize("made", [in_a_circle(), of_nothing()])
def test_nodes_that_lead_nowhere_are_followed_no_further(take: Take, made: onnx.ModelProto) -> None:
    with pytest.raises(FileRefused, match="is not valid ONNX"):
        take(made)


def test_the_report_says_that_maps_became_tensors(tmp_path: Path) -> None:
    source = written(tmp_path, maps_of_probabilities(classlabels_int64s=[0, 1, 2]))

    changed = run(source, "--repository", tmp_path / "models")
    unchanged = run(written(tmp_path, linear()), "--repository", tmp_path / "models", "--name", "b")

    assert (changed.exit_code, unchanged.exit_code) == (0, 0)
    assert "Changed    the classifier's outputs: a tensor with a column" in changed.stdout
    assert "Changed" not in unchanged.stdout


def optimised(operator: str, **more: Any) -> onnx.ModelProto:
    """A norm as ONNX Runtime's optimisers write it into a graph of an older opset."""
    weights = [numpy_helper.from_array(np.ones(3, np.float32), "weights")]
    nodes = [node(operator, ["x", "weights"], ["y"], epsilon=1e-5)]
    return model(nodes, initializers=weights, opsets=(("", 14),), **{"y": ("N", 3)} | more)


OF_THE_RUNTIME = {
    "before its opset": optimised("LayerNormalization"),
    "in ONNX's domain": optimised("SimplifiedLayerNormalization"),
    "without a shape": optimised("SimplifiedLayerNormalization", y=None),
    "without its opset": single("FastGelu", attributes={"domain": "com.microsoft"}),
}


@pytest.mark.parametrize("made", OF_THE_RUNTIME.values(), ids=OF_THE_RUNTIME)
def test_an_operator_that_only_the_runtime_knows_is_no_fault(
    tmp_path: Path, take: Take, made: onnx.ModelProto
) -> None:
    published = take(made)

    assert published.passport.rows is not None
    assert published.passport.rows.independent
    assert (published.folder / "model.onnx").read_bytes() == made.SerializeToString()


def test_an_operator_that_the_checker_trips_over_is_no_fault(take: Take) -> None:
    published = take(single("MeanVarianceNormalization", x=(2, 3, 4, 4), y=(2, 3, 4, 4)))

    assert "max_batch_size: 0" in config(published)


def test_a_fixed_first_dimension_is_no_batch(take: Take) -> None:
    published = take(linear(x=(4, 3), y=(4, 2)))

    assert published.passport.rows is not None
    assert published.passport.rows.reason == ("'x' is [4, 3], whose first dimension is fixed")
    assert "max_batch_size: 0" in config(published)


def test_one_number_without_dimensions_is_an_input_and_an_answer(take: Take) -> None:
    published = take(single("Relu", x=(), y=()))

    assert "max_batch_size: 0" in config(published)
    assert "dims: [ 1 ]" in config(published)
    assert published.passport.rows is not None
    assert published.passport.rows.reason == "'x' is [], without a dimension"


def test_a_model_of_bf16_is_tried_by_numbers_of_that_kind(take: Take) -> None:
    made = model(
        [
            node("Cast", ["x"], ["wide"], to=TensorProto.FLOAT),
            node("Add", ["wide", "wide"], ["twice"]),
            node("Cast", ["twice"], ["y"], to=TensorProto.BFLOAT16),
        ],
        y=("N", 3),
        kind=TensorProto.BFLOAT16,
    )
    made.graph.output[0].type.tensor_type.elem_type = TensorProto.BFLOAT16

    published = take(made)

    assert published.passport.rows is not None
    assert published.passport.rows.independent
    assert published.passport.rows.inputs == "floats from -1 to 1"
    tried = OnnxModel(published.folder / "model.onnx")(
        {"x": np.array([[1.5, -2.0, 0.25]], np.float32)}
    )
    np.testing.assert_array_equal(tried["y"], np.array([[3.0, -4.0, 0.5]], np.float32))


def test_a_scalar_of_bf16_is_a_number_as_well(take: Take) -> None:
    cast = node("Cast", ["x"], ["y"], to=TensorProto.FLOAT)

    published = take(model([cast], x=(), y=(), kind=TensorProto.BFLOAT16))

    tried = OnnxModel(published.folder / "model.onnx")({"x": np.array(1.5, np.float32)})
    assert tried["y"] == 1.5


def test_a_model_without_operators_of_onnx_itself_is_of_no_opset(take: Take) -> None:
    doubled = node("Scaler", ["x"], ["y"], domain="ai.onnx.ml", offset=[0.0], scale=[2.0])

    published = take(model([doubled], y=("N", 3), opsets=(("ai.onnx.ml", 1),)))

    assert published.passport.opset is None
    assert passport.read(published.folder / "passport.json").opset is None


def test_sparse_weights_are_weights(take: Take) -> None:
    made = linear()
    del made.graph.initializer[:]
    values = numpy_helper.from_array(np.array([1, 2], np.float32), "weights")
    places = numpy_helper.from_array(np.array([0, 4]), "places")
    made.graph.sparse_initializer.append(helper.make_sparse_tensor(values, places, [3, 2]))

    assert take(made).passport.rows is not None


def lookup(known: int = 5) -> onnx.ModelProto:
    """Tokens of any number, of which it knows so many."""
    table = numpy_helper.from_array(np.ones((known, 3), np.float32), "table")
    nodes = [node("Gather", ["table", "x"], ["y"])]
    return model(nodes, x=("N", "T"), y=("N", "T", 3), kind=TensorProto.INT64, initializers=[table])


def test_inputs_are_guessed_until_the_model_runs(take: Take) -> None:
    published = take(lookup())

    assert published.passport.rows is not None
    assert published.passport.rows.inputs == "integers from 0 to 1, variable dimensions of 8"


def test_a_guess_suits_all_rows_and_not_the_first_one_alone(take: Take) -> None:
    """Of 98 tokens the first row, were it drawn alone, holds few enough to be lucky."""
    published = take(lookup(known=98))

    assert published.passport.rows is not None
    assert published.passport.rows.inputs == "integers from 0 to 1, variable dimensions of 8"


def test_a_size_that_memory_cannot_hold_is_not_the_last_guess(take: Take) -> None:
    """Of five dimensions of any size, which have to be one."""
    weights = numpy_helper.from_array(np.ones((1, 2), np.float32), "weights")
    nodes = [node("MatMul", ["x", "weights"], ["y"])]
    sizes = ("N", "A", "B", "C", "D")

    published = take(model(nodes, x=(*sizes, "E"), y=(*sizes, 2), initializers=[weights]))

    assert published.passport.rows is not None
    assert published.passport.rows.inputs == "floats from -1 to 1, variable dimensions of 1"


def fixed_inside() -> onnx.ModelProto:
    """It says that it takes any length, and takes five."""
    weights = numpy_helper.from_array(np.ones((5, 2), np.float32), "weights")
    nodes = [node("MatMul", ["x", "weights"], ["y"])]
    return model(nodes, x=("N", "T"), initializers=[weights])


def test_a_model_that_no_guess_suits_asks_for_a_sample_and_takes_it(
    tmp_path: Path, take: Take
) -> None:
    with pytest.raises(GateRefused, match="give it rows of real ones by --sample"):
        take(fixed_inside())

    np.savez(tmp_path / "rows.npz", x=np.ones((3, 5), np.float32))
    published = take(fixed_inside(), sample=tmp_path / "rows.npz")

    assert published.passport.rows is not None
    assert published.passport.rows.inputs == "3 rows of rows.npz"
    assert published.passport.rows.batches[0].samples == "real"


@pytest.mark.parametrize(
    "arrays",
    [
        {"z": np.ones((2, 3))},
        {"x": np.float32(1)},
        {"x": np.ones((0, 3))},
        {"x": np.ones((2, 4))},
        {"x": np.ones((2, 3, 1))},
        {"x": np.ones((2, 3)) * 1j},
        {"x": np.array([["a", "b", "c"]])},
        {},
    ],
)
def test_a_sample_of_other_inputs_is_refused(
    tmp_path: Path, take: Take, arrays: dict[str, Any]
) -> None:
    np.savez(tmp_path / "rows.npz", **arrays)

    with pytest.raises(FileRefused, match=r"must hold N rows for each input.*x \[N, 3\] of FP32"):
        take(linear(), sample=tmp_path / "rows.npz")


def test_a_sample_that_is_no_npz_file_is_refused_without_advice_to_trust_it(
    tmp_path: Path, take: Take
) -> None:
    text, members = tmp_path / "text.npz", tmp_path / "members.npz"
    text.write_text("hello")
    with zipfile.ZipFile(members, "w") as file:
        file.writestr("x.npy", b"no array")

    with pytest.raises(FileRefused, match=r"cannot be read as an \.npz file of arrays: it is none"):
        take(linear(), sample=text)
    with pytest.raises(FileRefused, match="must hold N rows for each input"):
        take(linear(), sample=members)


def one_array(path: Path) -> None:
    np.save(path, np.ones((2, 3), np.float32))
    path.with_suffix(".npz.npy").rename(path)


def no_content(path: Path) -> None:
    path.touch()


def broken_compression(path: Path) -> None:
    np.savez_compressed(path, x=np.random.default_rng(0).normal(size=(50, 3)))
    data = bytearray(path.read_bytes())
    data[200:260] = b"\xaa" * 60
    path.write_bytes(data)


def of_any_size(path: Path) -> None:
    shape = b"{'descr': '<f4', 'fortran_order': False, 'shape': (999999999999, 3), }"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("x.npy", b"\x93NUMPY\1\0" + bytes([len(shape), 0]) + shape)


@pytest.mark.parametrize("make", [one_array, no_content, broken_compression, of_any_size])
def test_a_sample_that_cannot_be_read_is_refused(
    tmp_path: Path, take: Take, make: Callable[[Path], None]
) -> None:
    make(tmp_path / "rows.npz")

    with pytest.raises(FileRefused, match=r"rows.npz: cannot be read as an \.npz file of arrays"):
        take(linear(), sample=tmp_path / "rows.npz")


def run(*arguments: object) -> Result:
    return CliRunner().invoke(import_, [str(argument) for argument in arguments])


def test_the_report_says_why_there_are_no_batches_and_what_to_do_next(tmp_path: Path) -> None:
    source = written(tmp_path, mean_over_rows())

    result = run(source, "--repository", tmp_path / "models", "--name", "centred")

    assert (result.exit_code, result.stderr) == (0, "")
    assert "No batches y[" in result.stdout
    assert f"penstock serve --model-repository {tmp_path / 'models'}" in result.stdout
    proof = json.loads((tmp_path / "models" / "centred" / "1" / "passport.json").read_text())
    assert proof["model"] == "centred"


def test_a_refusal_is_one_message_and_exit_code_1(tmp_path: Path) -> None:
    source = written(tmp_path, single("Warp"))

    result = run(source, "--repository", tmp_path / "models")

    assert result.exit_code == 1
    assert result.stderr.startswith(f"Error: {source}: ONNX Runtime ")
    assert "Traceback" not in result.output


def test_a_url_is_no_folder_to_publish_into(tmp_path: Path) -> None:
    result = run(written(tmp_path, linear()), "--repository", "s3://bucket/models")

    assert result.exit_code == 2
    assert "'s3://bucket/models' is a URL: publish into a folder" in result.stderr
    assert not Path("s3:").exists()


@pytest.mark.parametrize("value", ["nan", "inf"])
def test_a_tolerance_is_a_finite_number(tmp_path: Path, value: str) -> None:
    result = run(written(tmp_path, linear()), "--absolute-tolerance", value)

    assert result.exit_code == 2
    assert f"{value} is no finite number" in result.stderr
