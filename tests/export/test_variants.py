"""Models of lower precision: made, measured against fp32, kept, dropped or refused."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import count
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from click.testing import CliRunner
from onnx import numpy_helper

from export import accuracy, candidates, half, place, quantise, speed, variants
from export.candidates import Baseline
from export.command import export
from export.errors import AccuracyRefused, ParityRefused, VariantRefused
from export.job import AUTO, Job
from export.onnx_model import CPU, CUDA, OnnxModel, Outputs
from export.place import Place
from export.publish import Dropped
from export.runners import onnx_runner
from export.variants import Variant
from serving import passport
from serving.engine.loading import default_backends
from serving.passport import AccuracyProof, ErrorProof
from serving.settings import PassportPolicy
from serving.types import Array
from serving.validate.check import Check
from tests.export.onnx_graphs import linear, single
from training.checkpoint import Checkpoint
from training.data.dataset import Dataset


@pytest.fixture
def base(trained: Checkpoint, digits: Dataset, graph: bytes) -> Baseline:
    """The digits with their fp32 model, whose batches are small."""
    value = accuracy.measure(onnx_runner(graph), digits, trained)
    measured = AccuracyProof(value=value, n=len(digits.test_y), checkpoint=value)
    return Baseline(trained, digits, graph, measured, max_batch_size=4)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """As few rounds as there may be."""
    monkeypatch.setattr(speed, "ROUNDS", (2, 2))


def job(*precisions: str, **more: float) -> Job:
    return Job(Path("unread"), variants=precisions, **more)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CPU])


def made(base: Baseline, *precisions: str, **more: float) -> Variant | Dropped:
    return next(variants.make(job(*(precisions or ("int8",)), **more), base))


def operators(graph: bytes) -> set[str]:
    return {node.op_type for node in onnx.load_from_string(graph).graph.node}


def test_a_static_variant_has_constant_ranges_and_independent_rows(base: Baseline) -> None:
    variant = made(base)

    assert isinstance(variant, Variant)
    assert {"QuantizeLinear", "DequantizeLinear"} <= operators(variant.graph)
    assert len(variant.graph) < len(base.graph) / 2
    assert variant.rows
    assert (variant.rows.independent, variant.max_batch_size) == (True, 4)
    proof = variant.proof
    assert (proof.method, proof.calibration_n) == ("static", 512)
    assert proof.fp32_value == base.measured.value
    assert proof.loss == pytest.approx(100 * (proof.fp32_value - variant.measured.value))
    assert [each.batch_size for each in proof.speed] == [1, 4]


def test_preprocessing_and_the_scores_stay_in_floating_point(base: Baseline) -> None:
    variant = made(base)

    assert isinstance(variant, Variant)
    nodes = [node.op_type for node in onnx.load_from_string(variant.graph).graph.node]
    before = nodes[: nodes.index("QuantizeLinear")]
    assert "Mul" in before
    assert "Add" in before
    assert nodes[-3:] == ["DequantizeLinear", "Gemm", "Softmax"]


def test_the_same_data_gives_the_same_bytes(base: Baseline) -> None:
    first, second = made(base), made(base)

    assert isinstance(first, Variant)
    assert isinstance(second, Variant)
    assert first.graph == second.graph


def test_a_model_whose_ranges_come_from_its_batch_is_held_to_one_row(
    base: Baseline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantise, "is_recurrent", lambda _: True)

    variant = made(base)

    assert isinstance(variant, Variant)
    assert "DynamicQuantizeLinear" in operators(variant.graph)
    assert (variant.proof.method, variant.proof.calibration_n) == ("dynamic", 0)
    assert variant.rows
    assert (variant.rows.independent, variant.max_batch_size) == (False, 1)
    assert "the row alone" in variant.rows.reason
    assert [each.batch_size for each in variant.proof.speed] == [1, 4]


def damage_the_weights(model: onnx.ModelProto) -> None:
    for tensor in model.graph.initializer:
        array = numpy_helper.to_array(tensor)
        if array.dtype == np.int8 and array.ndim == 2:
            tensor.CopyFrom(numpy_helper.from_array(-array, tensor.name))


def swap_the_labels(model: onnx.ModelProto) -> None:
    for tensor in model.graph.initializer:
        array = numpy_helper.to_array(tensor)
        if array.dtype == np.float32 and 10 in array.shape:
            axis = array.shape.index(10)
            tensor.CopyFrom(numpy_helper.from_array(np.flip(array, axis).copy(), tensor.name))


def flip_the_preprocessing(model: onnx.ModelProto) -> None:
    scale = next(node for node in model.graph.node if node.op_type == "Mul")
    scale.op_type = "Sub"


def break_the_operator(model: onnx.ModelProto) -> None:
    for node in model.graph.node:
        if node.op_type == "Gemm":
            kept = [each for each in node.attribute if each.name != "alpha"]
            del node.attribute[:]
            node.attribute.extend([*kept, onnx.helper.make_attribute("alpha", -1.0)])


@pytest.mark.parametrize(
    "damage", [damage_the_weights, swap_the_labels, flip_the_preprocessing, break_the_operator]
)
def test_a_variant_that_is_wrong_is_refused_or_dropped_by_its_loss(
    base: Baseline,
    monkeypatch: pytest.MonkeyPatch,
    damage: Callable[[onnx.ModelProto], None],
) -> None:
    static = quantise.static

    def damaged(graph: bytes, feeds: Iterator[object]) -> bytes:
        model = onnx.load_from_string(static(graph, feeds))  # type: ignore[arg-type]
        damage(model)
        return bytes(model.SerializeToString())

    monkeypatch.setattr(quantise, "static", damaged)
    monkeypatch.setattr(speed, "slower", lambda _: "")

    with pytest.raises(AccuracyRefused, match=r"int8 is right on .* points less, and at most 0.5"):
        made(base)
    dropped = made(base, AUTO)
    assert isinstance(dropped, Dropped)
    assert "points less, and at most 0.5 may be lost" in dropped.reason


def test_how_much_may_be_lost_is_an_option(base: Baseline) -> None:
    better = base.measured.model_copy(update={"value": base.measured.value + 0.02})

    with pytest.raises(AccuracyRefused):
        made(replace(base, measured=better), max_loss=1)
    assert isinstance(made(replace(base, measured=better), max_loss=3), Variant)


def test_of_an_error_so_many_per_cent_may_be_added() -> None:
    fp32 = ErrorProof(value=0.2, n=10, checkpoint=0.2)

    assert variants.loss_of(0.201, fp32) == pytest.approx(0.5)
    assert variants.loss_of(0.1, fp32) == pytest.approx(-50)


def test_a_graph_without_anything_to_quantise_is_refused() -> None:
    with pytest.raises(VariantRefused, match="no operator that can be quantised"):
        quantise.dynamic(single("Relu").SerializeToString())


def test_weights_keep_seven_bits_so_that_no_processor_overflows() -> None:
    graph = quantise.static(linear().SerializeToString(), [{"x": np.eye(3, dtype=np.float32)}] * 2)

    tensors = onnx.load_from_string(graph).graph.initializer
    arrays = [numpy_helper.to_array(tensor) for tensor in tensors]
    (whole,) = [array for array in arrays if array.dtype == np.int8 and array.ndim == 2]
    assert np.abs(whole.astype(int)).max() <= 64
    feed = {"x": np.eye(3, dtype=np.float32)}
    exact = OnnxModel(linear().SerializeToString())(feed)["y"]
    assert OnnxModel(graph)(feed)["y"] == pytest.approx(exact, abs=0.1)


def test_a_half_variant_is_held_to_half_precision_and_to_the_right_answers(base: Baseline) -> None:
    variant = made(base, "fp16")

    assert isinstance(variant, Variant)
    assert len(variant.graph) < 0.55 * len(base.graph)
    assert (variant.rows, variant.max_batch_size) == (None, 4)
    proof = variant.proof
    assert (proof.precision, proof.method, proof.calibration_n) == ("fp16", "mixed", 0)
    assert proof.loss == pytest.approx(100 * (proof.fp32_value - variant.measured.value))
    assert [each.batch_size for each in proof.speed] == [1, 4]
    assert proof.parity
    assert proof.parity.absolute_tolerance == 0.02
    assert [each.batch_size for each in proof.parity.batches] == [1, 2, 4]
    assert 0 < max(each.max_absolute for each in proof.parity.batches) < 0.02


def forget_an_offset(model: onnx.ModelProto) -> None:
    for tensor in model.graph.initializer:
        array = numpy_helper.to_array(tensor)
        if array.dtype == np.float16 and array.ndim == 1:
            tensor.CopyFrom(numpy_helper.from_array(0 * array, tensor.name))


def mirror_the_scores(model: onnx.ModelProto) -> None:
    for tensor in model.graph.initializer:
        array = numpy_helper.to_array(tensor)
        if array.dtype == np.float16 and 10 in array.shape:
            mirrored = np.flip(array, array.shape.index(10)).copy()
            tensor.CopyFrom(numpy_helper.from_array(mirrored, tensor.name))


@pytest.mark.parametrize(
    "damage",
    [forget_an_offset, mirror_the_scores, flip_the_preprocessing, break_the_operator],
)
def test_a_graph_that_was_halved_wrongly_is_refused_or_dropped_by_its_answers(
    base: Baseline, monkeypatch: pytest.MonkeyPatch, damage: Callable[[onnx.ModelProto], None]
) -> None:
    convert = half.convert

    def damaged(graph: bytes) -> half.Half:
        made = convert(graph)
        model = onnx.load_from_string(made.graph)
        damage(model)
        return replace(made, graph=model.SerializeToString())

    monkeypatch.setattr(half, "convert", damaged)

    with pytest.raises(ParityRefused, match=r"fp16 gives .*, fp32 .*\(0.02 \+ 0.02 of the value\)"):
        made(base, "fp16")
    _, dropped = variants.make(job(AUTO), base)
    assert isinstance(dropped, Dropped)
    assert "is allowed (0.02 + 0.02 of the value)" in dropped.reason


def test_a_half_variant_that_loses_right_answers_is_refused(base: Baseline) -> None:
    better = base.measured.model_copy(update={"value": base.measured.value + 0.02})

    with pytest.raises(AccuracyRefused, match=r"fp16 is right on .* points less"):
        made(replace(base, measured=better), "fp16")


def test_half_precision_is_measured_on_a_gpu_by_the_time_that_passes(
    base: Baseline, monkeypatch: pytest.MonkeyPatch
) -> None:
    # On the CPU in its place: two nanoseconds pass from one look at the clock to the next.
    stand_in = Place(CPU, count(step=2).__next__, "NVIDIA H200, driver 580.95.05")
    monkeypatch.setattr(place, "gpu_or_cpu", lambda _: stand_in)

    variant = made(base, "fp16")

    assert isinstance(variant, Variant)
    assert variant.proof.machine == "NVIDIA H200, driver 580.95.05"
    assert [each.fp32_microseconds.median for each in variant.proof.speed] == [0.002, 0.002]


@pytest.mark.filterwarnings("ignore:Specified provider")
def test_a_gpu_that_the_runtime_does_not_get_is_said_to_be_lacking(
    graph: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "has no CUDAExecutionProvider (pip install 'penstock[gpu]')" in (
        place.gpu_or_cpu(graph).lacking
    )
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA, CPU])

    found = place.gpu_or_cpu(graph)

    assert found.provider == CPU
    assert found.lacking.endswith("CUDAExecutionProvider does not load; penstock doctor tells why")


def test_a_part_has_no_ranges_and_a_language_model_no_variants(trained: Checkpoint) -> None:
    with pytest.raises(VariantRefused, match="no training samples in terms of a part"):
        variants.check(replace(job("int8"), part="decoder"), trained)
    variants.check(replace(job("fp16"), part="decoder"), trained)
    for precision in ("int8", "fp16"):
        with pytest.raises(VariantRefused, match="language models are exported in fp32 only"):
            variants.check(job(precision), replace(trained, task="language"))


@pytest.mark.parametrize(("verdict", "kept"), [("", True), ("0.9 times as fast", False)])
def test_auto_keeps_what_is_faster_and_says_why_the_rest_was_dropped(
    base: Baseline, monkeypatch: pytest.MonkeyPatch, verdict: str, kept: bool
) -> None:
    monkeypatch.setattr(speed, "slower", lambda _: verdict)

    int8, fp16 = variants.make(job(AUTO), base)

    assert isinstance(int8, Variant if kept else Dropped)
    assert isinstance(fp16, Variant if kept else Dropped)
    assert kept or int8 == Dropped("int8", "not faster: 0.9 times as fast")
    assert kept or fp16 == Dropped(
        "fp16",
        "not faster: 0.9 times as fast; on a GPU it may be: ONNX Runtime "
        f"{onnxruntime.__version__} here has no CUDAExecutionProvider "
        "(pip install 'penstock[gpu]')",
    )


@pytest.mark.usefixtures("converted")
def test_a_variant_is_published_as_a_model_of_its_own_that_serves(
    trained: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speed, "slower", lambda _: "0.9 times as fast")
    arguments = [trained.folder, "--variants", "fp32,int8,fp16", "--repository", str(tmp_path)]

    result = CliRunner().invoke(export, [*arguments, "--max-batch-size", "4"])

    assert (result.exit_code, result.stderr) == (0, "")
    assert f"Published  {tmp_path / 'digits-mlp-int8' / '1'}  (static int8, " in result.stdout
    assert f"Published  {tmp_path / 'digits-mlp-fp16' / '1'}  (mixed fp16, " in result.stdout
    assert "Not faster digits-mlp-fp16 than fp32 here; it was asked for by name\n" in result.stdout
    proof = passport.read(tmp_path / "digits-mlp-int8" / "1" / "passport.json")
    assert proof.variant is not None
    assert proof.variant.fp32_sha256 == passport.file_sha256(
        tmp_path / "digits-mlp" / "1" / "model.onnx"
    )
    reports = list(Check([tmp_path], default_backends(), PassportPolicy.REQUIRE).models())
    assert [report.findings for report in reports] == [(), (), ()]


@pytest.mark.usefixtures("converted")
def test_where_a_variant_cannot_be_published_nothing_is(
    trained: Checkpoint, tmp_path: Path
) -> None:
    theirs = tmp_path / "digits-mlp-int8"
    theirs.mkdir()
    (theirs / "config.pbtxt").write_text("max_batch_size: 2")
    arguments = [trained.folder, "--variants", "int8", "--repository", str(tmp_path)]

    result = CliRunner().invoke(export, [*arguments, "--max-batch-size", "4"])

    assert result.exit_code == 1
    assert "describes another model: max_batch_size is 2, but this model needs 4" in result.stderr
    assert list(tmp_path.iterdir()) == [theirs]


@pytest.mark.parametrize("wrong", ["int4", "auto,int8", ""])
def test_a_precision_that_is_none_is_a_wrong_use(wrong: str) -> None:
    result = CliRunner().invoke(export, [".", "--variants", wrong])

    assert result.exit_code == 2
    assert "expected auto alone, or some of fp32, int8, fp16" in " ".join(result.stderr.split())


def test_rows_are_answered_one_by_one_and_stacked(base: Baseline) -> None:
    seen: list[int] = []
    runner = onnx_runner(base.graph)

    def spy(raw: Array) -> Outputs:
        seen.append(len(raw))
        return runner(raw)

    stacked = candidates.one_by_one(spy)(base.dataset.test_x[:5])

    assert seen == [1] * 5
    for name, wanted in runner(base.dataset.test_x[:5]).items():
        assert stacked[name] == pytest.approx(wanted, abs=1e-5)
