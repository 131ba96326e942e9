"""What a model runs before it is ready; a session that takes notes stands in for ONNX Runtime."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from struct import pack

import numpy as np
import pytest

from serving.config import ModelConfig, Source, complete, parse, resolve
from serving.dtypes import Datatype
from serving.engine.raw_data import read_array
from serving.engine.repository import ModelFolder, Repository
from serving.engine.warmup import warm_up
from serving.errors import Internal, LoadFailed
from serving.types import Array, Signature, TensorSpec

SIGNATURE = Signature(
    inputs=(TensorSpec("x", Datatype.FP32, (-1, 3)), TensorSpec("t", Datatype.BYTES, (-1, 1))),
    outputs=(TensorSpec("y", Datatype.FP32, (-1, 3)),),
)
CONFIG = 'backend: "onnxruntime" max_batch_size: 4\n'
TEXT = 'inputs { key: "t" value { data_type: TYPE_STRING dims: 1 random_data: true } }'


def sample(x: str, count: int = 0, batch_size: int = 1, rest: str = TEXT) -> str:
    return (
        f'model_warmup {{ name: "first" count: {count} batch_size: {batch_size} {rest}\n'
        f'inputs {{ key: "x" value {{ {x} }} }} }}\n'
    )


class Notes:
    """A session that remembers what it ran, and refuses on demand."""

    signature = SIGNATURE
    steady = False

    def __init__(self, failure: str = "") -> None:
        self.runs: list[Mapping[str, Array]] = []
        self.failure = failure

    def run(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> list[Array]:
        if self.failure:
            raise Internal(self.failure)
        self.runs.append(dict(inputs))
        return [inputs["x"] for _ in outputs]

    def close(self) -> None:
        pass


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    (tmp_path / "m" / "1").mkdir(parents=True)
    (tmp_path / "m" / "warmup").mkdir()
    return tmp_path


def opened(
    repository: Path, text: str, signature: Signature = SIGNATURE
) -> tuple[ModelConfig, ModelFolder]:
    (repository / "m" / "config.pbtxt").write_text(CONFIG + text)
    folder = Repository([repository]).find("m")
    source = folder.source
    resolved = resolve(parse(source.text, source.name), "m", source, files=["model.onnx"])
    return complete(resolved, signature, source), folder


def warmed(repository: Path, text: str, failure: str = "") -> list[Mapping[str, Array]]:
    session = Notes(failure)
    warm_up(session, *opened(repository, text))
    return session.runs


def refusal(repository: Path, text: str, failure: str = "") -> str:
    with pytest.raises(LoadFailed) as refused:
        warmed(repository, text, failure)
    return refused.value.message


def test_without_samples_zeros_of_every_likely_batch_size_run_twice(repository: Path) -> None:
    runs = warmed(repository, "dynamic_batching { preferred_batch_size: 3 }")
    assert [len(run["x"]) for run in runs] == [1, 1, 2, 2, 3, 3, 4, 4]
    assert all(not run["x"].any() for run in runs)


@pytest.mark.parametrize("limit", ["_LONG", "_LARGE"])
def test_without_samples_zeros_end_with_the_first_batch_size_that_takes_long_or_is_large(
    repository: Path, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    monkeypatch.setattr(f"serving.engine.warmup.{limit}", 0)
    assert [len(inputs["x"]) for inputs in warmed(repository, "")] == [1, 1]


def test_without_samples_a_model_that_refuses_zeros_is_fit_all_the_same(repository: Path) -> None:
    assert warmed(repository, "", failure="no zeros") == []


def test_without_samples_a_model_whose_zeros_find_no_memory_is_fit_all_the_same(
    repository: Path,
) -> None:
    huge = 'input { name: "x" data_type: TYPE_FP64 dims: [16777216, 16777216] }\n'
    spec = TensorSpec("x", Datatype.FP64, (-1, 2**24, 2**24))
    text = huge + 'output { name: "y" data_type: TYPE_FP64 dims: 1 }\n'
    signature = Signature((spec,), (TensorSpec("y", Datatype.FP64, (-1, 1)),))
    assert warm_up(Notes(), *opened(repository, text, signature)) == {}


def test_a_sample_runs_as_often_as_it_says_and_nothing_else_does(repository: Path) -> None:
    runs = warmed(repository, sample("data_type: TYPE_FP32 dims: 3 zero_data: true", count=3))
    assert [run["x"].tolist() for run in runs] == [[[0, 0, 0]]] * 3
    assert all(run["t"].tolist() == [[b""]] for run in runs)


def test_a_sample_that_does_not_say_how_often_runs_once(repository: Path) -> None:
    assert len(warmed(repository, sample("data_type: TYPE_FP32 dims: 3 zero_data: true"))) == 1


def test_a_sample_of_no_rows_does_not_run(repository: Path) -> None:
    text = sample("data_type: TYPE_FP32 dims: 3 zero_data: true", batch_size=0)
    assert warmed(repository, text + text.replace("batch_size: 0", "batch_size: 2")) != []
    assert warmed(repository, text) != []  # With no sample left, zeros run.


def test_a_batch_repeats_the_row_that_the_file_holds(repository: Path) -> None:
    (repository / "m" / "warmup" / "x.raw").write_bytes(np.array([1, 2, 3], np.float32).tobytes())
    (repository / "m" / "warmup" / "t.raw").write_bytes(pack("<I", 5) + b"hello")
    runs = warmed(
        repository,
        sample(
            'data_type: TYPE_FP32 dims: 3 input_data_file: "x.raw"',
            batch_size=2,
            rest='inputs { key: "t" value '
            '{ data_type: TYPE_STRING dims: 1 input_data_file: "t.raw" } }',
        ),
    )
    assert [run["x"].tolist() for run in runs] == [[[1, 2, 3], [1, 2, 3]]]
    assert runs[0]["t"].tolist() == [[b"hello"], [b"hello"]]


def test_random_data_is_finite_and_not_all_the_same(repository: Path) -> None:
    [run] = warmed(repository, sample("data_type: TYPE_FP32 dims: 3 random_data: true"))
    assert run["x"].dtype == np.float32
    assert len(set(run["x"].ravel().tolist())) > 1
    assert np.isfinite(run["x"]).all()


def test_a_sample_that_fails_fails_the_load_in_the_words_of_triton(repository: Path) -> None:
    message = refusal(
        repository, sample("data_type: TYPE_FP32 dims: 3 zero_data: true"), failure="no kernel"
    )
    place = repository / "m" / "config.pbtxt"
    assert message == f"{place}:2: failed to run warmup sample 'first': no kernel"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            sample("data_type: TYPE_INT32 dims: 3 zero_data: true"),
            "inference input 'x' data-type is 'INT32', but model 'm' expects 'FP32'",
        ),
        (
            sample("data_type: TYPE_FP32 dims: 2 zero_data: true"),
            "unexpected shape for input 'x' for model 'm'. Expected [-1,3], got [1,2]",
        ),
        (
            sample("data_type: TYPE_FP32 dims: 3 zero_data: true", rest=""),
            "missing required input(s) ['t']",
        ),
        (
            sample("data_type: TYPE_FP32 dims: 3 zero_data: true", batch_size=5),
            "batch size 5 for 'm', max allowed is 4",
        ),
        (
            sample('data_type: TYPE_FP32 dims: 3 input_data_file: "none.raw"'),
            "none.raw: cannot be read: No such file or directory",
        ),
        (
            sample("data_type: TYPE_FP32 dims: -1 zero_data: true"),
            "expects all variable-size dimensions are specified for input 'x', got dims [-1]",
        ),
        (
            sample(f"data_type: TYPE_FP32 dims: {2**62} zero_data: true"),
            f"input 'x' of the shape [{2**62}] cannot be held in memory: ",
        ),
        (
            sample(f"data_type: TYPE_INT32 dims: {2**62} random_data: true"),
            f"input 'x' of the shape [{2**62}] cannot be held in memory: ",
        ),
        (
            sample("data_type: TYPE_FP32 dims: 3"),
            "warmup setting expects input 'x' to have input_data_type set",
        ),
        (sample("dims: 3 zero_data: true"), "warmup input 'x' must specify 'data_type'"),
        (
            sample('data_type: TYPE_FP32 dims: 3 input_data_file: "../config.pbtxt"'),
            "'../config.pbtxt' leaves the model's folder warmup",
        ),
    ],
)
def test_a_sample_that_is_no_request_for_the_model_fails_the_load(
    repository: Path, text: str, message: str
) -> None:
    assert message in refusal(repository, text)


def test_a_file_that_is_too_short_fails_the_load(repository: Path) -> None:
    (repository / "m" / "warmup" / "x.raw").write_bytes(bytes(8))
    text = sample('data_type: TYPE_FP32 dims: 3 input_data_file: "x.raw"')
    assert "x.raw has 8 bytes, and a FP32 tensor of shape [3] needs 12" in refusal(repository, text)


def test_a_link_out_of_the_repository_is_not_followed(
    repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    outside = tmp_path_factory.mktemp("outside") / "x.raw"
    outside.write_bytes(bytes(12))
    (repository / "m" / "warmup" / "x.raw").symlink_to(outside)
    text = sample('data_type: TYPE_FP32 dims: 3 input_data_file: "x.raw"')
    assert "outside of the repository" in refusal(repository, text)


@pytest.mark.parametrize(
    ("data", "datatype", "shape", "values"),
    [
        (np.array([1, 2, 3, 4], "<i2").tobytes(), Datatype.INT16, (2, 2), [[1, 2], [3, 4]]),
        (bytes(9), Datatype.INT64, (1,), [0]),
        (b"", Datatype.FP32, (0,), []),
        (pack("<I", 0) + pack("<I", 2) + b"ab", Datatype.BYTES, (2, 1), [[b""], [b"ab"]]),
    ],
)
def test_raw_data_is_little_endian_and_row_major(
    data: bytes, datatype: Datatype, shape: tuple[int, ...], values: list[object]
) -> None:
    assert read_array(data, datatype, shape, "f").tolist() == values


@pytest.mark.parametrize("data", [b"", b"\1\0", pack("<I", 3) + b"ab"])
def test_a_text_that_is_cut_off_is_refused(data: bytes) -> None:
    with pytest.raises(LoadFailed, match=r"^f ends within text 0 of the 1 that are needed$"):
        read_array(data, Datatype.BYTES, (1,), "f")


SEQUENCES = Signature(
    inputs=(
        TensorSpec("x", Datatype.FP32, (-1, 1)),
        TensorSpec("start", Datatype.INT32, (-1, 1)),
        TensorSpec("past", Datatype.FP32, (-1, -1)),
    ),
    outputs=(TensorSpec("y", Datatype.FP32, (-1, 1)), TensorSpec("next", Datatype.FP32, (-1, -1))),
)
BATCHING = """\
sequence_batching {
  control_input { name: "start" control { kind: CONTROL_SEQUENCE_START int32_false_true: [0, 1] } }
  state { input_name: "past" output_name: "next" data_type: TYPE_FP32 dims: -1 }
}
"""


def warmed_sequences(text: str) -> list[Mapping[str, Array]]:
    source = Source("config.pbtxt", CONFIG + BATCHING + text)
    resolved = resolve(parse(source.text, source.name), "m", source, files=["model.onnx"])
    session = Notes()
    warm_up(session, complete(resolved, SEQUENCES, source), ModelFolder("m", Path(), (1,), None))
    return session.runs


def test_zeros_are_what_clients_send_and_what_the_sequence_batcher_does() -> None:
    shapes = {name: array.shape for name, array in warmed_sequences("")[-1].items()}
    assert shapes == {"x": (4, 1), "start": (4, 1), "past": (4, 1)}


def test_a_sample_may_say_what_the_control_inputs_are() -> None:
    start = 'inputs { key: "start" value { data_type: TYPE_INT32 dims: 1 random_data: true } }'
    past = 'inputs { key: "past" value { data_type: TYPE_FP32 dims: 5 zero_data: true } }'
    x = "data_type: TYPE_FP32 dims: 1 zero_data: true"
    [run] = warmed_sequences(sample(x, batch_size=2, rest=start + past))
    assert run["past"].tolist() == [[0] * 5] * 2
    assert run["start"].dtype == np.int32
    assert run["start"][0] == run["start"][1]
