"""What no client sends and what is no batch of rows: the check knows the schedulers' ways."""

from pathlib import Path

from click.testing import CliRunner

from serving.validate.command import validate
from tests import ragged_models, sequence_models
from tests.serving.graphs import write


def assert_good(repository: Path) -> None:
    result = CliRunner().invoke(validate, [str(repository), "--strict", "--passport-policy=off"])
    assert result.exit_code == 0, result.output


def test_models_of_sequences_are_given_their_control_inputs_and_states(tmp_path: Path) -> None:
    for name, made, text in (
        ("witness", sequence_models.witness(), sequence_models.witness_config()),
        ("adder", sequence_models.adder(), sequence_models.adder_config()),
        ("alone", sequence_models.adder(False), sequence_models.adder_config(size=0)),
        ("memory", sequence_models.memory(), sequence_models.memory_config()),
    ):
        sequence_models.add(tmp_path, name, made, text)

    assert_good(tmp_path)


def test_a_ragged_model_need_not_give_as_many_rows_as_it_takes(tmp_path: Path) -> None:
    write(ragged_models.summer(), tmp_path / "ragged/1/model.onnx")
    text = f'backend: "onnxruntime" max_batch_size: 8\n{ragged_models.WHOLE}'
    (tmp_path / "ragged/config.pbtxt").write_text(text)

    assert_good(tmp_path)
