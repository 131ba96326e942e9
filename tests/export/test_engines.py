"""TensorRT engines: what they are for, how they are built, and what is refused.

TensorRT and CUDA's runtime are stand-ins; what calls them, gates and publishes is not.
"""

import ctypes
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from click.testing import CliRunner

from export import engine_build, engine_key, engine_target, engines, model_config
from export.candidates import Baseline
from export.command import export
from export.engine_key import Profile, Target
from export.engine_run import Engine, Memory
from export.errors import AccuracyRefused, EngineRefused, ParityRefused
from export.job import Job
from export.runners import onnx_runner
from serving import passport
from serving.config import Source, parse, placements, resolve
from serving.devices import Gpus
from serving.engine.backends.ort import OrtBackend
from serving.errors import LoadFailed
from serving.passport import AccuracyProof
from tests.export import tensorrt_stand_in
from tests.serving import drivers
from training import catalog
from training.checkpoint import Checkpoint
from training.data.dataset import Dataset

CUDART = r"""
#include <stdlib.h>
#include <string.h>
static int held = 0;
int cudaStreamCreate(void **stream) { *stream = &held; return getenv("FAKE_NO_STREAM") ? 35 : 0; }
int cudaStreamSynchronize(void *stream) { return stream != &held; }
int cudaMalloc(void **place, size_t size) { *place = malloc(size); held++; return 0; }
int cudaFree(void *place) { free(place); held--; return 0; }
int cudaMemcpy(void *to, const void *from, size_t size, int kind) {
  memcpy(to, from, size);
  return kind != 1 && kind != 2;
}
int held_now(void) { return held; }
"""
HERE = Target("NVIDIA H100", "9.0", "580.95.05", "13.0", "10.16.1.11")


@pytest.fixture
def base(trained: Checkpoint, digits: Dataset, graph: bytes) -> Baseline:
    value = trained.metrics["test_accuracy"]
    measured = AccuracyProof(value=value, n=len(digits.test_y), checkpoint=value)
    return Baseline(trained, digits, graph, measured, max_batch_size=4)


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    folder = tmp_path_factory.mktemp("cudart")
    return ctypes.CDLL(str(drivers.compiled(CUDART, folder / "runtime.so")))


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, library: ctypes.CDLL) -> None:
    """A machine with a GPU and all that is needed."""
    monkeypatch.setitem(sys.modules, "tensorrt", tensorrt_stand_in)
    monkeypatch.setattr(engine_target, "find", lambda: HERE)
    monkeypatch.setattr(engine_target, "cudart", lambda: library)


def job(*precisions: str, **more: Any) -> Job:
    return Job(Path("unread"), tensorrt=precisions, **more)


def config_of(base: Baseline) -> Any:
    return model_config.build("digits", base.checkpoint.signature, base.max_batch_size)


def made(base: Baseline, cache: Path, *precisions: str, **more: Any) -> list[engines.Made]:
    asked = job(*(precisions or ("fp32",)), **more)
    return list(engines.make(asked, base, config_of(base), HERE, cache))


@pytest.mark.parametrize(
    ("text", "longest", "profiles"),
    [
        ("max_batch_size: 64", 0, {"x": Profile((1, 2), (64, 2), (64, 2))}),
        (
            "max_batch_size: 64 dynamic_batching { preferred_batch_size: [ 16, 32 ] }",
            0,
            {"x": Profile((1, 2), (32, 2), (64, 2))},
        ),
        ("", 0, {"x": Profile((2,), (2,), (2,))}),
        (
            'max_batch_size: 8 input { name: "ids" dims: [ -1 ] }',
            100,
            {"x": Profile((1, 2), (8, 2), (8, 2)), "ids": Profile((1, 1), (8, 50), (8, 100))},
        ),
    ],
)
def test_profiles_come_from_the_configuration(
    text: str, longest: int, profiles: dict[str, Profile]
) -> None:
    config = parse('input { name: "x" dims: [ 2 ] } ' + text, "c")
    assert engine_key.profiles(config, longest) == profiles


def test_a_variable_dimension_without_an_end_is_refused() -> None:
    config = parse('input { name: "x" dims: [ -1 ] }', "c")
    with pytest.raises(EngineRefused, match=r"input 'x' has variable dimensions \[-1\]"):
        engine_key.profiles(config, 0)


def test_a_key_covers_all_that_an_engine_depends_on() -> None:
    shapes = {"x": Profile((1,), (2,), (3,))}
    keys = {
        engine_key.key(HERE, b"graph", "fp16", shapes),
        engine_key.key(HERE, b"other", "fp16", shapes),
        engine_key.key(HERE, b"graph", "fp32", shapes),
        engine_key.key(HERE, b"graph", "fp16", {"x": Profile((1,), (2,), (4,))}),
        *(
            engine_key.key(replace(HERE, **{name: "1"}), b"graph", "fp16", shapes)
            for name in Target.__slots__
        ),
    }
    assert len(keys) == 4 + 5
    assert engine_key.key(HERE, b"graph", "fp16", dict(shapes)) in keys


def test_timing_caches_are_of_a_gpu_and_its_versions() -> None:
    assert HERE.key == Target("NVIDIA H100", "9.0", "580.95.05", "13.0", "10.16.1.11").key
    assert HERE.key != replace(HERE, driver="590.1").key


def test_without_tensorrt_and_a_gpu_everything_missing_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for package in ("tensorrt", "pynvml"):
        monkeypatch.setitem(sys.modules, package, None)  # cannot be imported
    with pytest.raises(EngineRefused) as refusal:
        engine_target.find()
    told = str(refusal.value)
    assert told.startswith("no engine can be built here: TensorRT cannot be imported (")
    assert "pip install 'tensorrt-cu13<11'" in told
    assert "no NVIDIA GPU is seen here (" in told


def test_tensorrt_of_a_version_that_onnx_runtime_cannot_execute_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", tensorrt_stand_in)
    monkeypatch.setattr(tensorrt_stand_in, "__version__", "11.4.0.106")
    with pytest.raises(EngineRefused, match=r"TensorRT is 11\.4\.0\.106, and ONNX Runtime exec"):
        engine_target.find()


def test_cudas_runtime_is_named_where_it_is_missing() -> None:
    with pytest.raises(EngineRefused, match="CUDA's runtime is missing: pip install"):
        engine_target.cudart("libthere-is-no-such.so.13")


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("precision", "flags"), [("fp32", []), ("fp16", ["FP16"]), ("int8", ["INT8"])]
)
def test_a_build_asks_for_its_precision_and_profiles(
    graph: bytes, precision: str, flags: list[str]
) -> None:
    heard: list[str] = []
    shapes = {"image": Profile((1, 64), (2, 64), (4, 64))}
    built = engine_build.build(graph, shapes, precision, b"known", heard.append)
    asked = tensorrt_stand_in.asked(built.plan)
    assert asked["flags"] == flags
    assert asked["pools"] == {"WORKSPACE": 1 << 30}
    assert asked["profiles"] == [{"image": [[1, 64], [2, 64], [4, 64]]}]
    assert built.timing == b"known, learnt"
    assert heard == ["Building Engine", "Building Engine 1/2"]


@pytest.mark.usefixtures("here")
def test_a_timing_cache_of_another_version_or_gpu_is_none(graph: bytes) -> None:
    for timing in (b"of another version", b"of another GPU"):
        assert engine_build.build(graph, {}, "fp32", timing).timing == b"new, learnt"


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize(
    ("graph", "message"),
    [
        (b"", "TensorRT cannot read the graph: no graph"),
        (b"unbuildable", "TensorRT cannot build an engine: no kernel for it"),
    ],
)
def test_what_tensorrt_cannot_build_is_refused_in_its_words(graph: bytes, message: str) -> None:
    with pytest.raises(EngineRefused, match=message):
        engine_build.build(graph, {}, "fp32")


@pytest.mark.usefixtures("here")
def test_an_engine_answers_and_leaves_no_memory_behind(
    base: Baseline, library: ctypes.CDLL
) -> None:
    engine = Engine(b"{}\n" + base.graph, Memory(library))
    [name] = engine.inputs
    rows = base.dataset.test_x[:3]
    answers, wanted = engine({name: rows}), onnx_runner(base.graph)(rows)
    assert answers.keys() == wanted.keys()
    for output, array in wanted.items():
        np.testing.assert_array_equal(answers[output], array)
    assert library.held_now() == 0
    with pytest.raises(EngineRefused, match="takes no"):
        engine({name: np.repeat(rows, 30, axis=0)})
    assert library.held_now() == 0


@pytest.mark.usefixtures("here")
def test_what_cuda_and_tensorrt_refuse_is_told(
    library: ctypes.CDLL, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(EngineRefused, match="does not take the engine"):
        Engine(b"broken", Memory(library))
    monkeypatch.setenv("FAKE_NO_STREAM", "1")
    with pytest.raises(EngineRefused, match="cudaStreamCreate fails with CUDA's error 35"):
        Memory(library)


@pytest.mark.usefixtures("here")
def test_a_driver_or_memory_that_tensorrt_lacks_is_told(
    library: ctypes.CDLL, base: Baseline, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tensorrt_stand_in, "lacks", {"driver"})
    said = r"TensorRT cannot use the GPU \(CUDA initialization failure with error: 35\): penstock"
    with pytest.raises(EngineRefused, match=said):
        engine_build.build(base.graph, {}, "fp32")
    with pytest.raises(EngineRefused, match=r"TensorRT cannot use the GPU \(.*nullptr\)"):
        Engine(b"{}\n" + base.graph, Memory(library))
    monkeypatch.setattr(tensorrt_stand_in, "lacks", {"memory"})
    with pytest.raises(EngineRefused, match="the GPU has no memory left to run the engine in"):
        Engine(b"{}\n" + base.graph, Memory(library))


@pytest.mark.usefixtures("here")
def test_an_engine_is_held_against_onnx_runtime_and_says_what_it_is_for(
    base: Baseline, tmp_path: Path
) -> None:
    [engine] = made(base, tmp_path, "fp16")
    proof = engine.proof
    assert (proof.precision, proof.gpu, proof.tensorrt) == ("fp16", "NVIDIA H100", "10.16.1.11")
    assert proof.onnx_sha256 == engine_key.sha256(base.graph)
    assert [shape[0] for shape in next(iter(proof.profiles.values()))] == [1, 4, 4]
    assert proof.parity is not None
    assert {each.batch_size for each in proof.parity.batches} == {1, 2, 4}
    assert engine.suffix == "tensorrt-fp16"


@pytest.mark.usefixtures("here")
def test_int8_takes_symmetric_ranges_and_is_held_to_the_right_answers(
    base: Baseline, tmp_path: Path
) -> None:
    [engine] = made(base, tmp_path, "int8", max_loss=2)
    model = onnx.load_from_string(engine.plan.partition(b"\n")[2])
    zeros = [each for each in model.graph.initializer if each.name.endswith("_zero_point")]
    assert zeros
    assert all(not onnx.numpy_helper.to_array(zero).any() for zero in zeros)
    assert engine.proof.parity is None
    assert abs(engine.measured.value - base.measured.value) <= 0.02


@pytest.mark.usefixtures("here")
def test_what_was_built_is_not_built_again_and_what_was_learnt_is_kept(
    base: Baseline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [first] = made(base, tmp_path)
    assert (tmp_path / f"{first.proof.key}.plan").read_bytes() == first.plan
    assert (tmp_path / f"{HERE.key}.timing").read_bytes() == b"new, learnt"
    monkeypatch.setattr(engines, "build", lambda *_: pytest.fail("it was built again"))
    assert made(base, tmp_path)[0].plan == first.plan


@pytest.mark.usefixtures("here")
def test_an_engine_that_cannot_be_kept_is_there_all_the_same(
    base: Baseline, tmp_path: Path
) -> None:
    told: list[str] = []
    folder = tmp_path / "cache"
    folder.write_bytes(b"no folder")
    [engine] = engines.make(job("fp32"), base, config_of(base), HERE, folder, told.append)
    assert engine.proof.parity is not None
    assert f"{folder} cannot keep the engine: File exists" in told


@pytest.mark.usefixtures("here")
def test_an_engine_that_answers_otherwise_is_refused(
    base: Baseline, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Engine.__call__

    def wrong(self: Engine, feed: Any) -> Any:
        return {name: array + np.float32(0.1) for name, array in real(self, feed).items()}

    monkeypatch.setattr(Engine, "__call__", wrong)
    with pytest.raises(ParityRefused, match=r"TensorRT gives .*, ONNX Runtime "):
        made(base, tmp_path)


@pytest.mark.usefixtures("here")
def test_an_engine_that_loses_too_many_right_answers_is_refused(
    base: Baseline, tmp_path: Path
) -> None:
    better = base.measured.model_copy(update={"value": min(1.0, base.measured.value + 0.01)})
    with pytest.raises(AccuracyRefused, match=r"the fp32 engine has .* at most 0\.5 is allow"):
        made(replace(base, measured=better), tmp_path)


def test_the_graph_beside_an_engine_has_the_models_inputs_and_outputs(base: Baseline) -> None:
    model = onnx.load_from_string(engines.wrapper(base.graph, HERE))
    [node] = model.graph.node
    attributes = {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}
    assert (node.op_type, node.domain) == ("EPContext", "com.microsoft")
    assert attributes == {
        "embed_mode": 0,
        "ep_cache_context": b"model.plan",
        "hardware_architecture": b"90",
        "source": b"TensorrtExecutionProvider",
    }
    original = onnx.load_from_string(base.graph)
    assert list(model.graph.input) == list(original.graph.input)
    assert list(model.graph.output) == list(original.graph.output)


def test_onnx_runtime_knows_the_node_and_wants_its_provider(base: Baseline, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(engines.wrapper(base.graph, HERE))
    with pytest.raises(LoadFailed, match="it is an engine for TensorrtExecutionProvider, which "):
        OrtBackend(threads=1).open(parse("", "c"), tmp_path)


def test_an_engine_is_served_on_gpus_by_tensorrt(base: Baseline) -> None:
    config = engines.configured(config_of(base), "digits-tensorrt")
    resolved = resolve(config, "digits-tensorrt", Source("c"), gpus=Gpus((0,)))
    assert [str(each) for each in placements(resolved)] == ["GPU 0 by TensorRT"]


@pytest.mark.usefixtures("here", "converted")
def test_engines_are_published_as_models_of_their_own(
    trained: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "CACHE", tmp_path / "cache")
    asked = ["--repository", str(tmp_path), "--max-batch-size", "4", "--tensorrt", "fp32,fp16"]
    result = CliRunner().invoke(export, [str(trained.folder), *asked])
    assert (result.exit_code, result.stderr) == (0, "")
    assert "Build TensorRT engines, and compare them with ONNX Runtime …" in result.stdout
    assert "TensorRT 10.16.1.11, fp16 for NVIDIA H100" in " ".join(result.stdout.split())
    version = tmp_path / "digits-mlp-tensorrt-fp16" / "1"
    proof = passport.read(version / "passport.json")
    assert set(proof.files) == {"model.onnx", "model.plan"}
    assert passport.mismatches(proof, version) == []
    assert proof.engine is not None
    assert (tmp_path / "digits-mlp-tensorrt" / "1" / "model.plan").exists()


def test_an_engine_that_cannot_be_had_is_refused_before_any_work(
    trained: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(catalog, "load_dataset", lambda *_: pytest.fail("data were read"))
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    result = CliRunner().invoke(export, [str(trained.folder), "--tensorrt"])
    assert result.exit_code == 1
    assert "Error: no engine can be built here: " in result.stderr


def test_what_no_engine_is_for_is_refused(trained: Checkpoint) -> None:
    with pytest.raises(EngineRefused, match="language models"):
        engines.check(job("fp32"), replace(trained, task="language"))
    with pytest.raises(EngineRefused, match="translators"):
        engines.check(job("fp32"), replace(trained, task="translation"))
    with pytest.raises(EngineRefused, match="models of texts"):
        engines.check(job("int8"), replace(trained, task="text"))


@pytest.mark.parametrize("wrong", ["fp8", "auto", "fp16,int4"])
def test_a_precision_that_is_none_is_a_wrong_use(wrong: str) -> None:
    result = CliRunner().invoke(export, [".", "--tensorrt", wrong])
    assert result.exit_code == 2
    assert "is none; expected some of fp32, fp16, int8" in " ".join(result.stderr.split())
