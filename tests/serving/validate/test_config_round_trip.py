"""What `penstock config` prints for a model, `penstock validate` finds nothing wrong with."""

from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from serving.config_command import config
from serving.dtypes import Datatype
from serving.validate.command import validate
from tests.serving.graphs import Tensors, model, write

FP32, INT64, BYTES = Datatype.FP32, Datatype.INT64, Datatype.BYTES


def round_trip(folder: Path, inputs: Tensors, outputs: Tensors, defaults: list[str]) -> None:
    file = write(model(inputs, outputs, defaults), folder / "models/net/1/model.onnx")
    output = folder / "models/net/config.pbtxt"
    printed = CliRunner().invoke(config, [str(file), "--output", str(output), "--force"])
    assert printed.exit_code == 0, printed.output

    checked = CliRunner().invoke(
        validate, [str(folder / "models"), "--strict", "--passport-policy=off"]
    )

    assert checked.exit_code == 0, checked.output


@pytest.mark.parametrize(
    ("inputs", "outputs", "defaults"),
    [
        ({"x": (FP32, ["batch", 4])}, {"y": (FP32, ["batch", 2])}, []),
        ({"x": (FP32, ["batch"])}, {"y": (INT64, ["batch"])}, []),
        ({"x": (FP32, [1, 4])}, {"y": (FP32, [1, 2])}, []),
        ({"x": (FP32, [])}, {"y": (FP32, []), "z": (FP32, [2])}, []),
        ({"x": (FP32, [None, "n"])}, {"y": (FP32, ["n", None, 3])}, []),
        ({"text": (BYTES, ["batch", 1])}, {"text_out": (BYTES, ["batch", 2])}, []),
        (
            {"a": (INT64, ["batch", "n"]), "b": (Datatype.BOOL, ["batch", "n"])},
            {"y": (Datatype.FP16, ["batch", "n"]), "z": (Datatype.BF16, ["batch"])},
            [],
        ),
        ({"x": (FP32, [2]), "bias": (FP32, [2])}, {"y": (FP32, [2])}, ["bias"]),
        ({"x": (FP32, ["batch", 2]), "bias": (FP32, [2])}, {"y": (FP32, ["batch"])}, ["bias"]),
    ],
)
def test_a_printed_configuration_is_found_good(
    tmp_path: Path, inputs: Tensors, outputs: Tensors, defaults: list[str]
) -> None:
    round_trip(tmp_path, inputs, outputs, defaults)


dims = st.lists(st.integers(1, 3) | st.sampled_from([None, "n"]), max_size=3)


@settings(max_examples=40)
@given(
    st.booleans(),
    st.lists(st.tuples(st.sampled_from(Datatype), dims), min_size=2, max_size=5),
    st.data(),
)
def test_a_configuration_printed_for_any_graph_is_found_good(
    tmp_path_factory: pytest.TempPathFactory,
    batches: bool,
    tensors: list[tuple[Datatype, list[int | str | None]]],
    data: st.DataObject,
) -> None:
    named: Tensors = {
        f"tensor {index}": (datatype, ["batch", *shape] if batches else shape)
        for index, (datatype, shape) in enumerate(tensors)
    }
    cut = data.draw(st.integers(1, len(named) - 1))
    items = list(named.items())
    kinds = [datatype for _, (datatype, _) in items]
    # Which ONNX Runtime cannot be asked for together; the loader says so.
    assume(not (Datatype.BYTES in kinds[:cut] and Datatype.BF16 in kinds[cut:]))

    round_trip(tmp_path_factory.mktemp("any"), dict(items[:cut]), dict(items[cut:]), [])
