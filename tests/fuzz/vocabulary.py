"""What the decoders look for, for mutations to insert; and the inputs of the models that ask."""

from typing import Final

from serving.dtypes import Datatype
from serving.types import TensorSpec

DATATYPES: Final = tuple(datatype.wire.encode() for datatype in Datatype)
JSON_WORDS: Final = (
    *(b"{", b"}", b"[", b"]", b",", b":", b'"', b"\\", b"\\ud800", b"\\u0000", b"\xf0\x9f\x98\x80"),
    *(b"null", b"true", b"false", b"NaN", b"-Infinity", b"1e999", b"[[", b"{}", b"[]", b'""'),
    *(b'"id":', b'"inputs":', b'"outputs":', b'"parameters":', b'"name":', b'"shape":', b'"data":'),
    *(b'"datatype":', b'"binary_data_size":', b'"binary_data":', b'"binary_data_output":'),
    *(b'"classification":', b'"shared_memory_region":', b'"sequence_id":', b'"timeout":'),
    *DATATYPES,
)
SPECS: Final = (
    TensorSpec("a", Datatype.FP32, (-1, 2)),
    TensorSpec("text", Datatype.BYTES, (-1, 1)),
    TensorSpec("b", Datatype.UINT8, (-1, 2, -1)),
)
# A raw request of two numbers.
