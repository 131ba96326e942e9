"""Whatever a client gets wrong, it is told what, where and what was expected; and nobody suffers.

Faults that every encoding can express: each is sent as JSON, as binary data over REST and over
gRPC, and what the core finds is said in the same words.
"""

import math
from typing import Final

import grpc
import httpx
import pytest

from tests.e2e.asking import (
    BAD,
    LABEL,
    NOT_OFFERED,
    SIZE,
    UNKNOWN,
    ZEROS,
    Answer,
    Input,
    Request,
    one,
    send_binary,
    send_grpc,
    send_json,
)

pytestmark = pytest.mark.usefixtures("unbroken")


def with_value(value: float) -> Request:
    return one(shape=(2, 64), data=[*ZEROS, *ZEROS[:-1], value])


FAULTS: Final[dict[str, tuple[Request, tuple[int, str], str]]] = {
    "unknown model": (
        Request(model="nobody"),
        UNKNOWN,
        "Request for unknown model: 'nobody' is not found",
    ),
    "unknown version": (
        Request(version="9"),
        UNKNOWN,
        "Request for unknown model: 'digits-mlp' version 9 is not found",
    ),
    **{
        f"version {version}": (
            Request(version=version),
            BAD,
            f"version '{version}' of model 'digits-mlp' is not a version; expected a whole number "
            "above 0",
        )
        for version in ("latest", "-1", "1.0", "9" * 30)
    },
    "version 0": (
        Request(version="0"),
        UNKNOWN,
        "Request for unknown model: 'digits-mlp' version 0 is not found",
    ),
    "unknown input": (
        one(name="pixels"),
        BAD,
        "unexpected inference input 'pixels' for model 'digits-mlp'; expected 'features'",
    ),
    "one input too many": (
        Request(inputs=(Input(), Input(name="more"))),
        BAD,
        "unexpected inference input 'more' for model 'digits-mlp'; expected 'features'",
    ),
    "no input": (
        Request(inputs=()),
        BAD,
        f"{LABEL}expected 1 inputs but got 0 inputs for model 'digits-mlp'. Got input(s) [], but "
        "missing required input(s) ['features']. Please provide all required input(s).",
    ),
    "an input twice": (
        Request(inputs=(Input(), Input())),
        BAD,
        "inputs[1].name: expected each name once, got 'features' again",
    ),
    "unknown datatype": (
        one(datatype="FLOAT"),
        BAD,
        "inputs[0].datatype: unknown datatype 'FLOAT'; expected one of BOOL, UINT8, UINT16, "
        "UINT32, UINT64, INT8, INT16, INT32, INT64, FP16, FP32, FP64, BF16, BYTES",
    ),
    "wrong datatype": (
        one(datatype="FP64"),
        BAD,
        f"{LABEL}inference input 'features' data-type is 'FP64', but model 'digits-mlp' "
        "expects 'FP32'",
    ),
    "wrong shape": (
        one(shape=(2, 32)),
        BAD,
        f"{LABEL}unexpected shape for input 'features' for model 'digits-mlp'. Expected [-1,64], "
        "got [2,32].",
    ),
    "no batch dimension": (
        one(shape=(64,)),
        BAD,
        f"{LABEL}unexpected shape for input 'features' for model 'digits-mlp'. Expected [-1,64], "
        "got [64]. The first dimension is the batch, since max_batch_size is above zero: send one "
        "example as a batch of 1.",
    ),
    "one dimension too many": (
        one(shape=(1, 8, 8)),
        BAD,
        f"{LABEL}unexpected shape for input 'features' for model 'digits-mlp'. Expected [-1,64], "
        "got [1,8,8].",
    ),
    "no dimensions": (
        one(shape=(), data=[0.0]),
        BAD,
        f"{LABEL}unexpected shape for input 'features' for model 'digits-mlp'. Expected [-1,64], "
        "got [].",
    ),
    "zero rows": (
        one(shape=(0, 64), data=[]),
        BAD,
        f"{LABEL}inference request batch-size must be >= 1 for 'digits-mlp', "
        "got 0 rows in input 'features'",
    ),
    "too many rows": (
        one(shape=(65, 64), data=ZEROS * 65),
        BAD,
        f"{LABEL}inference request batch-size must be <= 64 for 'digits-mlp', "
        "got 65 rows in input 'features'",
    ),
    "negative dimension": (
        one(shape=(-1, 64)),
        BAD,
        "inputs[0].shape: expected a list of non-negative integers, got [-1, 64]",
    ),
    "too many dimensions": (
        one(shape=(1,) * 33, data=[0.0]),
        BAD,
        "inputs[0].shape: expected at most 32 dimensions, got 33",
    ),
    "a shape beyond any memory": (
        one(shape=(2**40, 2**40), data=[0.0]),
        BAD,
        "inputs[0].shape: expected at most 9223372036854775807 bytes in all, "
        "got [1099511627776, 1099511627776]",
    ),
    "a zero that hides such a shape": (
        one(shape=(2**40, 2**40, 0), data=[]),
        BAD,
        "inputs[0].shape: expected at most 9223372036854775807 bytes in all, "
        "got [1099511627776, 1099511627776, 0]",
    ),
    **{
        f"{value}": (
            with_value(value),
            BAD,
            f"{LABEL}input 'features' for model 'digits-mlp' must hold finite numbers, "
            f"got {value} at [1,63]",
        )
        for value in (math.nan, math.inf, -math.inf)
    },
    "unknown output": (
        Request(outputs=("classes",)),
        BAD,
        "unexpected inference output 'classes' for model 'digits-mlp'; expected 'logits', "
        "'probabilities'",
    ),
    "more inputs than any model has": (
        Request(inputs=(Input(data=[]),) * 4097),
        BAD,
        "inputs: expected at most 4096, got 4097",
    ),
    "more outputs than any model has": (
        Request(outputs=("logits",) * 4097),
        BAD,
        "outputs: expected at most 4096, got 4097",
    ),
    "more parameters than anybody needs": (
        Request(parameters={f"p{number}": 1 for number in range(4097)}),
        BAD,
        "parameters: expected at most 4096, got 4097",
    ),
    "an output twice": (
        Request(outputs=("logits", "logits")),
        BAD,
        "outputs[1].name: expected each name once, got 'logits' again",
    ),
    "a timeout in words": (
        Request(parameters={"timeout": "soon"}),
        BAD,
        "parameters.timeout: expected an unsigned 64-bit integer of microseconds, got 'soon'",
    ),
    "a reserved parameter": (
        Request(parameters={"triton_x": 1}),
        BAD,
        "parameters.triton_x: the name is reserved; 'headers' and parameter keys starting with "
        "'triton_' are reserved for Triton usage and should not be specified.",
    ),
    "an input in shared memory": (
        one(parameters={"shared_memory_region": "r", "shared_memory_byte_size": 256}),
        NOT_OFFERED,
        "inputs[0].parameters.shared_memory_region: this server does not offer shared memory; "
        "expected the tensor's data in the request or response itself",
    ),
}


@pytest.mark.parametrize(("request_", "statuses", "message"), FAULTS.values(), ids=FAULTS.keys())
def test_the_same_fault_is_told_in_the_same_words_in_every_encoding(
    http: httpx.Client,
    channel: grpc.Channel,
    request_: Request,
    statuses: tuple[int, str],
    message: str,
) -> None:
    status, code = statuses
    assert send_json(http, request_) == Answer(status, message)
    assert send_binary(http, request_) == Answer(status, message)
    assert send_grpc(channel, request_) == Answer(code, message)


def test_data_that_does_not_fill_its_shape_is_refused_in_every_encoding(
    http: httpx.Client, channel: grpc.Channel
) -> None:
    for count in (0, 63, 65):
        short = one(data=[0.0] * count)
        expected = f"inputs[0].data: expected 64 elements for shape [1, 64], got {count}"
        assert send_json(http, short) == Answer(400, expected)
        expected = f"{LABEL}{SIZE}. Expected 256, got {4 * count}"
        assert send_binary(http, short) == Answer(400, expected)
        assert send_grpc(channel, short) == Answer("INVALID_ARGUMENT", expected)
