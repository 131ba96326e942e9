"""Tensors of every datatype and shape for hypothesis, and what makes two of them equal."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from serving.dtypes import Datatype
from serving.types import Array, InferenceResponse, Tensor

JSON_DATATYPES = [d for d in Datatype if d not in (Datatype.FP16, Datatype.BF16)]

shapes = hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)


@st.composite
def arrays(draw: st.DrawFn, datatype: Datatype, elements: st.SearchStrategy[bytes]) -> Array:
    """An array of `datatype`; those of BYTES hold `elements`."""
    shape = draw(shapes)
    if datatype is not Datatype.BYTES:
        array: Array = draw(hnp.arrays(datatype.numpy, shape))
        return array
    count = int(np.prod(shape))
    array = np.empty(count, object)
    array[:] = draw(st.lists(elements, min_size=count, max_size=count))
    return array.reshape(shape)


@st.composite
def responses(draw: st.DrawFn, datatypes: Sequence[Datatype], text_only: bool) -> InferenceResponse:
    """A response of up to three outputs; `text_only` keeps BYTES to UTF-8."""
    elements = st.text(max_size=5).map(str.encode) if text_only else st.binary(max_size=5)
    outputs = []
    for index, datatype in enumerate(draw(st.lists(st.sampled_from(datatypes), max_size=3))):
        array = draw(arrays(datatype, elements))
        outputs.append(Tensor(f"output:{index}", datatype, array))
    return InferenceResponse("m", "7", tuple(outputs), id=draw(st.text(max_size=3)))


def assert_same(actual: Array, expected: Array) -> None:
    """Equal in type, shape and every element, NaN being equal to NaN."""
    assert actual.dtype == expected.dtype
    assert actual.shape == expected.shape
    if expected.dtype == object:
        assert actual.tolist() == expected.tolist()
    else:
        np.testing.assert_array_equal(actual, expected)


def tensor(name: str, datatype: Datatype, values: Any) -> Tensor:
    """A tensor from (nested lists of) Python values."""
    return Tensor(name, datatype, np.array(values, datatype.numpy))
