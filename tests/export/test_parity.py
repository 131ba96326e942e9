import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from export import parity
from export.errors import ParityRefused
from export.job import Tolerance
from export.onnx_model import Outputs
from export.parity import Batch, Difference
from export.runners import Runner
from export.samples import Samples
from serving.types import Array

ROWS = np.linspace(-4, 4, 8 * 3, dtype=np.float32).reshape(8, 3)
SAMPLES = Samples("real", ROWS, tuple(f"sample {i}" for i in range(8)))
BATCH = Batch(SAMPLES, start=2, size=3)


def double(rows: Array) -> Outputs:
    return {"logits": rows * 2}


def check(reference: Runner, candidate: Runner) -> None:
    parity.check(reference, candidate, [SAMPLES], (1, 2, 7, 8), Tolerance())


def test_batch_sizes_are_one_two_seven_and_the_largest() -> None:
    assert parity.batch_sizes(64) == (1, 2, 7, 64)
    assert parity.batch_sizes(7) == (1, 2, 7)
    assert parity.batch_sizes(4) == (1, 2, 4)
    assert parity.batch_sizes(1) == (1,)


def test_the_largest_differences_are_recorded_for_each_batch_size_and_kind() -> None:
    def candidate(rows: Array) -> Outputs:
        return {"logits": rows * 2 + np.float32(2**-16)}

    extreme = Samples("extreme", ROWS, SAMPLES.names)
    proof = parity.check(double, candidate, [SAMPLES, extreme], (1, 7), Tolerance())

    assert [(b.batch_size, b.samples) for b in proof.batches] == [
        (1, "real"), (7, "real"), (1, "extreme"), (7, "extreme"),
    ]  # fmt: skip
    assert [b.max_absolute for b in proof.batches] == pytest.approx([2**-16] * 4, rel=0.1)
    smallest = float(np.abs(ROWS * 2).min())
    assert proof.batches[0].max_relative == pytest.approx(2**-16 / smallest, rel=0.1)


def test_a_refusal_says_how_much_and_where() -> None:
    def candidate(rows: Array) -> Outputs:
        answer = rows * 2
        if len(rows) == 7:
            answer[3, 1] += 0.5
        return {"logits": answer}

    with pytest.raises(ParityRefused) as refused:
        check(double, candidate)

    wanted = float(ROWS[3, 1] * 2)
    assert str(refused.value) == (
        f"logits[3, 1] at batch size 7, real sample 'sample 3': ONNX Runtime gives "
        f"{wanted + 0.5:.7g}, torch {wanted:.7g}; they differ by 0.5, but at most "
        f"{1e-4 + 1e-4 * abs(wanted):.3g} is allowed (0.0001 + 0.0001 of the value)"
    )


def test_a_row_that_depends_on_its_neighbours_is_refused_even_if_torch_agrees() -> None:
    def leaking(rows: Array) -> Outputs:
        return {"logits": rows - rows.mean(axis=0)}

    with pytest.raises(ParityRefused, match=r"batch size 2.*the row alone"):
        check(leaking, leaking)


def nan(rows: Array) -> Outputs:
    return {"logits": np.full_like(rows, np.nan)}


def infinite(rows: Array) -> Outputs:
    return {"logits": np.full_like(rows, np.inf)}


def wider(rows: Array) -> Outputs:
    return {"logits": np.repeat(rows * 2, 2, axis=1)}


def higher(rows: Array) -> Outputs:
    return {"logits": (rows * 2).astype(np.float64)}


def renamed(rows: Array) -> Outputs:
    return {"scores": rows * 2}


@pytest.mark.parametrize(
    ("candidate", "named"),
    [
        (nan, "gives nan"),
        (infinite, "gives inf"),
        (wider, r"float32\[1, 6\]"),
        (higher, r"float64\[1, 3\]"),
        (renamed, "scores"),
    ],
)
def test_what_is_no_number_or_of_another_kind_is_refused(candidate: Runner, named: str) -> None:
    with pytest.raises(ParityRefused, match=named):
        check(double, candidate)


@pytest.mark.parametrize("both", [nan, infinite])
def test_two_that_agree_on_what_is_no_number_are_refused_too(both: Runner) -> None:
    with pytest.raises(ParityRefused, match="a model has to answer with numbers"):
        check(both, both)


SHAPE = (3, 2)
VALUES = arrays.arrays(
    np.float32, SHAPE, elements=st.floats(-1000, 1000, width=32, allow_subnormal=False)
)


@given(
    found=VALUES,
    wanted=VALUES,
    close=st.booleans(),
    absolute=st.floats(1e-6, 1),
    relative=st.floats(0, 1),
)
def test_the_rule_holds_for_each_element_and_is_refused_where_one_breaks_it(
    found: Array, wanted: Array, close: bool, absolute: float, relative: float
) -> None:
    if close:  # otherwise hardly any example would pass
        found = wanted + found / np.float32(1e6)
    differences = [abs(float(a) - float(b)) for a, b in zip(found.flat, wanted.flat, strict=True)]
    within = all(
        difference <= absolute + relative * abs(float(b))
        for difference, b in zip(differences, wanted.flat, strict=True)
    )

    def compare() -> Difference:
        tolerance = Tolerance(absolute, relative)
        return parity.compare({"y": found}, {"y": wanted}, "torch", BATCH, tolerance)

    if within:
        assert compare().absolute == max(differences)
    else:
        with pytest.raises(ParityRefused):
            compare()
