import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from export import samples
from training.spec import Normalisation, TensorField

PIXELS = TensorField("image", "UINT8", (1, 4, 4))
FEATURES = TensorField("features", "FP32", (64,))
SCALED = Normalisation(1 / 16, (0.3,), (0.4,))


def test_real_samples_start_again_where_the_test_set_is_smaller() -> None:
    drawn = samples.real(np.arange(3)[:, None], 5)

    assert drawn.rows[:, 0].tolist() == [0, 1, 2, 0, 1]
    assert drawn.names[3] == "test sample 0"


def test_extremes_of_pixels_reach_both_ends_and_checkerboards() -> None:
    drawn = samples.extremes(PIXELS, SCALED, 5)
    rows = dict(zip(drawn.names, drawn.rows, strict=True))

    assert drawn.rows.dtype == np.uint8
    assert (rows["zeros"] == 0).all()
    assert (rows["full scale"] == 255).all()
    assert rows["checkerboard"][0, :2, :2].tolist() == [[0, 255], [255, 0]]
    assert rows["inverse checkerboard"][0, :2, :2].tolist() == [[255, 0], [0, 255]]
    assert len(np.unique(rows["random"])) > 4


def test_extremes_of_floats_reach_past_their_scale_and_down_to_the_smallest_number() -> None:
    drawn = samples.extremes(FEATURES, SCALED, 8)
    rows = dict(zip(drawn.names, drawn.rows, strict=True))

    assert drawn.rows.dtype == np.float32
    assert rows["full scale"].max() == 16
    assert (rows["large checkerboard"].min(), rows["large checkerboard"].max()) == (-160, 160)
    assert 0 < np.abs(rows["tiny checkerboard"]).max() < 1e-37


@pytest.mark.parametrize("field", [PIXELS, FEATURES], ids=["pixels", "floats"])
@given(count=st.integers(1, 40))
def test_a_sample_is_always_finite_of_the_right_shape_and_drawn_alike_again(
    field: TensorField, count: int
) -> None:
    drawn = samples.extremes(field, SCALED, count)

    assert drawn.rows.shape == (count, *field.shape)
    assert len(drawn.names) == count
    assert np.isfinite(drawn.rows).all()
    np.testing.assert_array_equal(drawn.rows, samples.extremes(field, SCALED, count).rows)
