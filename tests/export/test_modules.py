"""Torch modules of somebody's own: from a callable and a file of weights to a served version."""

import os
import re
import resource
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from click.testing import CliRunner, Result
from onnx import numpy_helper
from safetensors.torch import save_file
from torch import nn

from export import exporter, generated, module_pipeline, protobuf_limit, torch_module
from export.command import export
from export.errors import ConversionFailed, ModuleRefused, ParityRefused
from export.job import ModuleJob
from export.onnx_model import OnnxModel
from serving import passport
from serving.dtypes import Datatype
from serving.engine.loading import default_backends
from serving.settings import PassportPolicy
from serving.types import TensorSpec
from serving.validate.check import Check

CODE = '''
import threading

import torch
from torch import nn

class Words(nn.Module):
    """Numbers of tokens and their mask, of any length, to two outputs by name."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(50, 4)
        self.head = nn.Linear(4, 2)
        self.drop = nn.Dropout(0.5)

    def forward(self, ids, mask):
        count = mask.sum(1, keepdim=True).clamp(min=1)
        mean = (self.embedding(ids) * mask[..., None]).sum(1) / count
        logits = self.head(self.drop(mean))
        return {"logits": logits, "norm": logits.norm(dim=1)}

class Gated(nn.Module):
    def __init__(self):
        super().__init__()
        self.gru = nn.GRU(3, 2, batch_first=True)

    def forward(self, x):
        return self.gru(x)[0]

class Kept(Gated):
    """The same layer by two names, and what cannot be copied."""

    def __init__(self):
        super().__init__()
        self.again = self.gru
        self.lock = threading.Lock()

class Pair(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(3, 2)

    def forward(self, x):
        return self.head(x), x.mean(dim=1)

class Centred(nn.Module):
    def forward(self, x):
        return x - x.mean(dim=0)

class Shares(nn.Module):
    def forward(self, x):
        return x / x.shape[1]

class Total(nn.Module):
    def forward(self, x):
        return x.sum()

class Strange(nn.Module):
    def forward(self, x):
        return {"x": x, "note": "hello"}

class Positive(nn.Module):
    def forward(self, x):
        return x[x > 0]

class Numbered(nn.Module):
    def forward(self, x):
        return {0: x, 7: x + 1}

class Halved(nn.Module):
    def forward(self, x):
        return x.bfloat16()

class Scattered(nn.Module):
    def forward(self, x):
        return x.to_sparse()

class Noisy(nn.Module):
    def forward(self, x):
        return {"y": nn.functional.dropout(x, 0.5, training=True)}

class Counting(nn.Module):
    count = 0

    def forward(self, x):
        self.count += 1
        return x + self.count

class Vast(nn.Module):
    """2.4 GB by its shape, of a few bytes of memory."""

    def __init__(self):
        super().__init__()
        self.register_buffer("table", torch.zeros(1).expand(600_000_000))

    def forward(self, x):
        return x + self.table[-1]

class Branching(nn.Module):
    def forward(self, x):
        if x.sum() > 0:
            return 2 * x
        return x

class Leaving(nn.Module):
    def forward(self, x):
        raise SystemExit(0)

class Untested(nn.Module):
    def eval(self):
        raise ValueError("not trained yet")

def broken():
    raise ValueError("no weights today")

def leaving():
    raise SystemExit(0)

def late():
    from mine_too import Net
    return Net()

ready = Pair()

ready_for_any = nn.Identity

number = lambda: 3
'''


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A working directory with the package `mine`."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "nets.py").write_text(CODE)
    monkeypatch.setattr(sys, "path", sys.path[:])
    yield tmp_path
    for name in [name for name in sys.modules if name.partition(".")[0] in {"mine", "mine_too"}]:
        del sys.modules[name]


def x(*dims: int) -> TensorSpec:
    return TensorSpec("x", Datatype.FP32, dims)


def pair(folder: Path) -> Path:
    """The weights of a Pair in a file."""
    torch.manual_seed(0)
    torch.save({"head." + name: each for name, each in nn.Linear(3, 2).state_dict().items()},
               folder / "w.pt")  # fmt: skip
    return folder / "w.pt"


def job(built: str, *inputs: TensorSpec, **more: Any) -> ModuleJob:
    return ModuleJob(f"mine.nets:{built}", inputs or (x(3),), repository=Path("models"), **more)


@pytest.fixture
def pair_graph(here: Path) -> bytes:
    """A Pair of the weights in w.pt by hand, which saves the seconds of a conversion."""
    weights = {name: each.numpy() for name, each in torch.load(pair(here)).items()}
    axes = numpy_helper.from_array(np.array([1]), "axes")
    nodes = [
        onnx.helper.make_node("Gemm", ["x", "w", "b"], ["score"], transB=1),
        onnx.helper.make_node("ReduceMean", ["x", "axes"], ["mean"], keepdims=0),
    ]
    values = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, dims)
        for name, dims in (("x", ["batch", 3]), ("score", ["batch", 2]), ("mean", ["batch"]))
    ]
    initializers = [
        numpy_helper.from_array(weights["head.weight"], "w"),
        numpy_helper.from_array(weights["head.bias"], "b"),
        axes,
    ]
    graph = onnx.helper.make_graph(nodes, "pair", values[:1], values[1:], initializers)
    opset = [onnx.helper.make_opsetid("", 18)]
    made = onnx.helper.make_model(graph, opset_imports=opset, ir_version=10)
    return bytes(made.SerializeToString())


def graph_of(change: Callable[[onnx.ModelProto], object], graph: bytes) -> Callable[..., bytes]:
    """In place of a conversion: this graph, tampered with."""
    model = onnx.load_from_string(graph)
    change(model)
    return lambda *_: bytes(model.SerializeToString())


def run(*arguments: object) -> Result:
    return CliRunner().invoke(export, [str(argument) for argument in arguments])


def test_a_module_of_several_inputs_of_any_length_ends_served(here: Path) -> None:
    inputs = ("--input", "ids:INT64:-1", "--input", "mask:INT64:-1")

    result = run("mine.nets:Words", *inputs, "--repository", here / "models")

    assert (result.exit_code, result.stderr) == (0, "")
    proof = passport.read(here / "models" / "nets" / "1" / "passport.json")
    assert proof.source is not None
    assert (proof.source.kind, proof.source.name) == ("module", "mine.nets:Words")
    assert (proof.accuracy, proof.dataset, proof.weights_sha256) == (None, None, None)
    assert proof.parity is not None
    measured = {(each.batch_size, each.samples) for each in proof.parity.batches}
    assert measured == {(n, kind) for n in (1, 2, 7, 64) for kind in ("random", "extreme")}
    signature = OnnxModel(here / "models" / "nets" / "1" / "model.onnx").signature
    assert [spec.dims for spec in signature.inputs] == [(-1, -1), (-1, -1)]
    assert [spec.name for spec in signature.outputs] == ["logits", "norm"]
    (report,) = Check([here / "models"], default_backends(), PassportPolicy.REQUIRE).models()
    assert report.findings == ()


def test_the_weights_are_those_of_the_file(
    here: Path, pair_graph: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module_pipeline, "to_onnx", graph_of(lambda _: None, pair_graph))

    published = module_pipeline.export_module(
        job("Pair", weights=here / "w.pt", outputs=("score", "mean"), name="pair")
    )

    proof = published.passport
    assert proof.weights_sha256 == passport.file_sha256(here / "w.pt")
    assert proof.parameters == 8
    assert "max_batch_size: 64" in (published.folder.parent / "config.pbtxt").read_text()


def test_a_full_disk_is_told_in_a_sentence(
    pair_graph: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module_pipeline, "to_onnx", graph_of(lambda _: None, pair_graph))
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.raises(ConversionFailed, match=r"the graph cannot be written .*by TMPDIR"):
            module_pipeline.export_module(job("Pair", weights=Path("w.pt")))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_weights_that_no_file_can_hold_are_refused_before_they_are_converted(here: Path) -> None:
    steps: list[str] = []

    with pytest.raises(ConversionFailed) as refused:
        module_pipeline.export_module(job("Vast"), steps.append)

    assert str(refused.value) == (
        "mine.nets:Vast: its weights of 2.40 GB are more than one ONNX file can hold (2.15 GB): "
        "have its weights in half precision, or export it by torch.onnx.export(..., "
        "external_data=True), which puts them beside the graph, and publish that by penstock import"
    )
    assert steps == list(module_pipeline.STEPS[:1])
    assert not (here / "models").exists()


def test_a_graph_that_no_file_can_hold_is_refused_as_well(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protobuf_limit, "BYTES", 1000)
    model = onnx.ModelProto()
    tensor = model.graph.initializer.add(raw_data=bytes(900))
    assert len(exporter.serialised(model, "x")) < 1000
    tensor.raw_data = bytes(1000)

    with pytest.raises(ConversionFailed, match=r"^x: its graph of .* more than one ONNX file can"):
        exporter.serialised(model, "x")


def divided(by: float, declared: int | str) -> onnx.ModelProto:
    """What Shares is at one length; the declared one of its output may be wrong."""
    x, output = (
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, ["batch", dim])
        for name, dim in (("x", "length"), ("output", declared))
    )
    number = numpy_helper.from_array(np.float32(by), "by")
    node = onnx.helper.make_node("Div", ["x", "by"], ["output"])
    graph = onnx.helper.make_graph([node], "shares", [x], [output], [number])
    opset = [onnx.helper.make_opsetid("", 18)]
    return onnx.helper.make_model(graph, opset_imports=opset, ir_version=10)


def test_a_graph_that_is_right_at_one_length_alone_is_refused(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporter, "convert", lambda *_: divided(8, "length"))

    with pytest.raises(ParityRefused, match="sample 'random 0, of another size'"):
        module_pipeline.export_module(job("Shares", x(-1)))

    assert not (here / "models").exists()


def test_a_length_that_is_stated_and_varies_is_freed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporter, "convert", lambda *_: divided(1, 8))

    published = module_pipeline.export_module(job("ready_for_any", x(-1)))

    (output,) = OnnxModel(published.folder / "model.onnx").signature.outputs
    assert output.dims == (-1, -1)


def flip_a_weight(model: onnx.ModelProto) -> None:
    weights = numpy_helper.to_array(model.graph.initializer[0]).copy()
    weights[1, 2] += 0.01
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(weights, "w"))


def swap_the_outputs(model: onnx.ModelProto) -> None:
    weights = [numpy_helper.to_array(tensor)[::-1] for tensor in model.graph.initializer[:2]]
    for tensor, name, swapped in zip(model.graph.initializer, "wb", weights, strict=False):
        tensor.CopyFrom(numpy_helper.from_array(swapped.copy(), name))


def break_the_operator(model: onnx.ModelProto) -> None:
    model.graph.node[1].op_type = "ReduceMax"


def flip_the_input(model: onnx.ModelProto) -> None:
    model.graph.node.insert(0, onnx.helper.make_node("Neg", ["x"], ["flipped"]))
    model.graph.node[1].input[0] = "flipped"


@pytest.mark.parametrize(
    "change", [flip_a_weight, swap_the_outputs, break_the_operator, flip_the_input]
)
def test_a_graph_that_differs_from_its_module_is_refused(
    here: Path,
    pair_graph: bytes,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[onnx.ModelProto], None],
) -> None:
    monkeypatch.setattr(module_pipeline, "to_onnx", graph_of(change, pair_graph))

    with pytest.raises(ParityRefused, match="random sample 'random 0': ONNX Runtime gives"):
        module_pipeline.export_module(
            job("Pair", weights=here / "w.pt", outputs=("score", "mean"), name="pair")
        )

    assert not (here / "models").exists()


def test_an_output_without_a_row_for_each_of_the_batch_is_refused(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is left of all rows is what is left of each, one behind the other."""
    nodes = [
        onnx.helper.make_node("Greater", ["x", "zero"], ["above"]),
        onnx.helper.make_node("Compress", ["flat", "above flat"], ["output"]),
    ]
    for name in ("x", "above"):
        flat = "flat" if name == "x" else "above flat"
        nodes.insert(-1, onnx.helper.make_node("Reshape", [name, "any"], [flat]))
    numbers = [
        numpy_helper.from_array(np.array(0, np.float32), "zero"),
        numpy_helper.from_array(np.array([-1]), "any"),
    ]
    values = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, dims)
        for name, dims in (("x", ["batch", 3]), ("output", ["left"]))
    ]
    graph = onnx.helper.make_graph(nodes, "positive", values[:1], values[1:], numbers)
    opset = [onnx.helper.make_opsetid("", 18)]
    made = onnx.helper.make_model(graph, opset_imports=opset, ir_version=10)
    monkeypatch.setattr(module_pipeline, "to_onnx", lambda *_: made.SerializeToString())

    with pytest.raises(ParityRefused, match=r"output has the shape .* not a row for each"):
        module_pipeline.export_module(job("Positive"))

    assert not (here / "models").exists()


def fix_the_batch(model: onnx.ModelProto) -> None:
    model.graph.output[0].type.tensor_type.shape.dim[0].dim_value = 2


def rename_the_input(model: onnx.ModelProto) -> None:
    model.graph.input[0].name = model.graph.node[0].input[0] = model.graph.node[1].input[0] = "z"


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (fix_the_batch, r"'score' came out as \[2, 2\]"),
        (rename_the_input, r"takes \['z'\], the module \['x'\]"),
    ],
)
def test_a_graph_of_other_inputs_or_rows_is_refused(
    pair_graph: bytes,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[onnx.ModelProto], None],
    named: str,
) -> None:
    monkeypatch.setattr(module_pipeline, "to_onnx", graph_of(change, pair_graph))

    with pytest.raises(ConversionFailed, match=named):
        module_pipeline.export_module(job("Pair", weights=Path("w.pt"), outputs=("score", "mean")))


@pytest.mark.parametrize(
    ("name", "named"),
    [
        ("broken", "mine.nets:broken: ValueError: no weights today"),
        ("leaving", "mine.nets:leaving: SystemExit: 0"),
        ("Untested", "mine.nets:Untested: ValueError: not trained yet"),
        ("ready", "mine.nets:ready: is a torch module, not a callable that returns one"),
        ("number", "mine.nets:number: returns a int, not a torch module"),
        ("missing", "mine.nets:missing: AttributeError: "),
        ("Strange", "the module gives Tensor, str; it must give tensors"),
        ("Halved", "gives output as torch.bfloat16 of the layout torch.strided, which cannot be"),
        ("Noisy", "gives another y each time for the same input.*: by dropout or noise"),
        ("Counting", "gives another output each time"),
        ("Scattered", "gives output as torch.float32 of the layout torch.sparse_coo, which cannot"),
    ],
)
def test_what_builds_no_module_that_gives_tensors_is_refused(name: str, named: str) -> None:
    with pytest.raises(ModuleRefused, match=named):
        module_pipeline.export_module(job(name))


def test_a_branch_that_values_decide_is_shown_in_the_code_and_nothing_else(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(ConversionFailed) as refused:
        module_pipeline.export_module(job("Branching"))

    message = str(refused.value)
    assert message.startswith("torch cannot export mine.nets:Branching: which way it goes on")
    assert re.search(r'nets.py", line \d+, in forward\n    if x.sum\(\) > 0:\nSay it by', message)
    assert "TORCH" not in message
    assert capfd.readouterr() == ("", "")


def test_a_module_that_cannot_be_imported_is_named() -> None:
    with pytest.raises(ModuleRefused, match=r"No module named 'mine\.nowhere'"):
        module_pipeline.export_module(ModuleJob("mine.nowhere:Net", (x(3),)))


def test_a_module_that_ends_the_process_is_a_refusal_and_not_a_success(here: Path) -> None:
    result = run("mine.nets:Leaving", "--input", "x:FP32:3", "--repository", here / "models")

    assert result.exit_code == 1
    assert "the module cannot run on x [1, 3]" in result.stderr


def test_a_callable_imports_from_the_working_directory_as_well(here: Path) -> None:
    (here / "mine_too.py").write_text("from mine.nets import Pair as Net")

    assert type(torch_module.build("mine.nets:late")).__name__ == "Pair"


def test_outputs_by_numbers_are_named_by_them(here: Path) -> None:
    run_numbered = torch_module.runner(torch_module.build("mine.nets:Numbered"), ())

    assert list(run_numbered({"x": np.ones((1, 3), np.float32)})) == ["0", "7"]


def test_outputs_are_as_many_as_are_named() -> None:
    with pytest.raises(
        ModuleRefused, match="--output names 1, and the module gives 2: output_0, output_1"
    ):
        module_pipeline.export_module(job("Pair", outputs=("score",)))


@pytest.mark.parametrize(
    ("inputs", "outputs", "named"),
    [
        ((), ("score", "score"), "'x', 'score', 'score', and 'score' names no one of them"),
        ((), ("score", "x"), "'x', 'score', 'x', and 'x' names no one of them"),
        ((), ("score", ""), "and '' names no one of them: give each a name of its own"),
        ((x(3), x(3)), (), "'x', 'x', and 'x' names no one of them"),
        ((TensorSpec("output_1", Datatype.FP32, (3,)),), (), "and 'output_1' names no one of them"),
    ],
)
def test_inputs_and_outputs_have_names_of_their_own(
    inputs: tuple[TensorSpec, ...], outputs: tuple[str, ...], named: str
) -> None:
    with pytest.raises(ModuleRefused, match=named):
        module_pipeline.export_module(job("Pair", *inputs, outputs=outputs))


class Evil:
    """What a pickle can do to whoever reads it."""

    def __reduce__(self) -> Any:
        return os.mkdir, ("evil",)


def no_weights(path: Path) -> None:
    torch.save([1, 2], path)


def other_weights(path: Path) -> None:
    torch.save({"head.weight": torch.zeros(2, 3), "tail": torch.zeros(1)}, path)


def other_keys(path: Path) -> None:
    torch.save({0: torch.zeros(1)}, path)


def wrapped(path: Path) -> None:
    torch.save({f"module.{name}": each for name, each in torch.load(path).items()}, path)


def with_its_code(path: Path) -> None:
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("w/constants.pkl", b"")  # by which torch knows TorchScript


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def pickled(path: Path) -> None:
    torch.save({"head.weight": Evil()}, path)


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


@pytest.mark.parametrize(
    ("damage", "named"),
    [
        (no_weights, "holds no weights by name"),
        (other_weights, r"does not fit the module: (.|\n)*Missing key.*head.bias"),
        (other_keys, "holds no weights by name"),
        (wrapped, r"begin with 'module\.', .* and would fit without"),
        (with_its_code, "it is of TorchScript, which holds code: save the weights alone"),
        (emptied, "torch did not save it so .EOFError"),
        (pickled, "is not unpickled, which could execute anything"),
        (truncated, "w.pt: cannot be read as weights"),
    ],
)
def test_a_file_of_other_things_than_its_weights_is_refused_and_never_executed(
    here: Path, damage: Callable[[Path], None], named: str
) -> None:
    damage(pair(here))

    with pytest.raises(ModuleRefused, match=named):
        module_pipeline.export_module(job("Pair", weights=here / "w.pt"))

    assert not (here / "evil").exists()


@pytest.mark.parametrize("nested", ["state_dict", "model_state_dict", "model"])
def test_weights_are_found_among_what_training_scripts_save(here: Path, nested: str) -> None:
    weights = torch.load(pair(here))
    torch.save({"epoch": 3, nested: weights}, here / "all.pt")

    module = torch_module.build("mine.nets:Pair")
    torch_module.load_weights(module, here / "all.pt")

    assert torch.equal(module.state_dict()["head.bias"], weights["head.bias"])


def test_safetensors_are_read_as_well(here: Path) -> None:
    weights = torch.load(pair(here))
    save_file(weights, here / "w.safetensors")

    module = torch_module.build("mine.nets:Pair")
    torch_module.load_weights(module, here / "w.safetensors")

    assert torch.equal(module.state_dict()["head.weight"], weights["head.weight"])


@pytest.mark.parametrize("name", ["Gated", "Kept"])
def test_layers_that_the_exporter_does_not_have_are_replaced_by_operators(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def without_gru(flat: nn.Module, *_: object) -> onnx.ModelProto:
        if any(isinstance(layer, nn.GRU) for layer in flat.modules()):
            raise ConversionFailed("there is no GRU")
        return onnx.ModelProto(producer_name="operators")

    monkeypatch.setattr(exporter, "convert", without_gru)
    module = torch_module.build(f"mine.nets:{name}")
    before = [*module.named_modules(remove_duplicate=False)]
    feeds = generated.draw((x(4, 3),), 2, 1, 1)

    made = module_pipeline.to_onnx(job(name, x(4, 3)), module, feeds, ("y",))

    assert onnx.load_from_string(made).producer_name == "operators"
    assert [*module.named_modules(remove_duplicate=False)] == before


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["mine.nets:Pair"], "--input NAME:DATATYPE:DIMS"),
        (["mine.nets:Pair", "--input", "x:FP32"], "is no NAME:DATATYPE:DIMS"),
        (["mine.nets:Pair", "--input", "x:FP31:3"], "unknown datatype 'FP31'"),
        (["mine.nets:Pair", "--input", "x:FP32:3,a"], "dims are numbers above 0, or -1"),
        (["mine.nets:Pair", "--input", "x:FP32:0"], "dims are numbers above 0, or -1"),
        (["mine.nets:Pair", "--input", "x:BYTES:1"], "torch has no tensors of BYTES"),
        (["mine.nets:Pair", "--input", "x:FP32:3", "--part", "decoder"], "--part is an option of"),
        ([".", "--input", "x:FP32:3"], "--input is an option of package.module:callable"),
        ([".", "--checkpoint", "mine/nets.py"], "--checkpoint is an option of"),
    ],
)
def test_a_wrong_use_is_exit_code_2_and_says_what_is_meant(
    arguments: list[str], named: str
) -> None:
    result = run(*arguments)

    assert result.exit_code == 2
    assert named in " ".join(result.stderr.split())
