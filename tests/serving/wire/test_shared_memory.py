"""Tensors in shared memory, over REST and over gRPC: the same checks, the same words."""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tritonclient.grpc import service_pb2

from serving.dtypes import Datatype
from serving.errors import InvalidArgument, NotFound, RegionTooSmall, ServingError, Unsupported
from serving.shared_memory import OBJECTS, Regions
from serving.types import InferenceRequest, InferenceResponse, Tensor
from serving.wire import proto, rest, rest_answers
from serving.wire.shared_memory import Places

NUMBERS = np.arange(16, dtype=np.float32)
PROTOCOLS = ["rest", "grpc"]

Parameters = Mapping[str, Any]

pytestmark = pytest.mark.skipif(not OBJECTS.is_dir(), reason=f"no {OBJECTS} here")


@pytest.fixture
def path() -> Iterator[Path]:
    path = OBJECTS / f"penstock-wire-{os.getpid()}"
    path.write_bytes(NUMBERS.tobytes())
    yield path
    path.unlink()


@pytest.fixture
def regions(path: Path) -> Regions:
    """Region `r` holds sixteen numbers."""
    regions = Regions()
    regions.register("r", path.name, 0, NUMBERS.nbytes)
    return regions


def area(byte_size: Any, offset: Any = None, region: Any = "r") -> dict[str, Any]:
    given = {"region": region, "byte_size": byte_size, "offset": offset}
    return {f"shared_memory_{name}": value for name, value in given.items() if value is not None}


def decode(
    protocol: str,
    regions: Regions | None,
    source: Parameters,
    shape: list[int],
    target: Parameters | None = None,
    datatype: str = "FP32",
) -> tuple[InferenceRequest, Places]:
    """A request for a model of one input `x` and one output `y`."""
    if protocol == "rest":
        tensor = {"name": "x", "datatype": datatype, "shape": shape, "parameters": source}
        document = {"inputs": [tensor]}
        if target is not None:
            document["outputs"] = [{"name": "y", "parameters": target}]
        request, encoding = rest.decode_infer(
            "m", "", json.dumps(document).encode(), regions=regions
        )
        return request, encoding.places
    message = service_pb2.ModelInferRequest(model_name="m")
    set_parameters(message.inputs.add(name="x", datatype=datatype, shape=shape), source)
    if target is not None:
        set_parameters(message.outputs.add(name="y"), target)
    return proto.decode_infer_with(regions, message)


def set_parameters(tensor: Any, parameters: Parameters) -> None:
    for name, value in parameters.items():
        proto.set_parameter(tensor.parameters[name], value)


def encode(protocol: str, array: Any, places: Places, datatype: Datatype = Datatype.FP32) -> Any:
    """What is told of the output `y`, its data or what stands for it."""
    response = InferenceResponse("m", "1", (Tensor("y", datatype, array),))
    if protocol == "rest":
        parts, length = rest_answers.encode_infer(
            response, rest_answers.OutputEncoding(True, places=places)
        )
        assert length is None
        [output] = json.loads(b"".join(parts))["outputs"]
        return output
    message = proto.encode_infer(response, places)
    [output] = message.outputs
    assert list(message.raw_output_contents) == [b""]
    return {"name": output.name, "datatype": output.datatype, "shape": list(output.shape)}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_an_input_is_read_from_its_region(protocol: str, regions: Regions) -> None:
    request, places = decode(protocol, regions, area(16, 8), [2, 2])
    assert request.inputs[0].array.tolist() == [[2, 3], [4, 5]]
    assert places == {}


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_the_offset_is_zero_where_none_is_given(protocol: str, regions: Regions) -> None:
    request, _ = decode(protocol, regions, area(4), [1])
    assert request.inputs[0].array.tolist() == [0]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_an_input_of_another_size_than_its_shape_is_not_even_read(
    protocol: str, regions: Regions, path: Path
) -> None:
    os.truncate(path, 0)
    with pytest.raises(InvalidArgument, match=r"byte size mismatch.* Expected 12, got 16"):
        decode(protocol, regions, area(16), [3])


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_texts_lie_there_as_they_travel(protocol: str, regions: Regions, path: Path) -> None:
    path.write_bytes(b"\2\0\0\0hi\0\0\0\0" + bytes(100))
    request, _ = decode(protocol, regions, area(10), [2], datatype="BYTES")
    assert request.inputs[0].array.tolist() == [b"hi", b""]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_an_output_is_written_to_its_region_and_only_told_of(
    protocol: str, regions: Regions, path: Path
) -> None:
    _, places = decode(protocol, regions, area(4), [1], area(12, 16))
    told = encode(protocol, np.array([[-1, -2]], np.float32), places)
    assert told == {"name": "y", "datatype": "FP32", "shape": [1, 2]}
    written = np.frombuffer(path.read_bytes(), np.float32)
    # The last of the three numbers that would fit stays as it is.
    assert written.tolist() == [0, 1, 2, 3, -1, -2, *range(6, 16)]


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_an_output_without_elements_writes_nothing(
    protocol: str, regions: Regions, path: Path
) -> None:
    _, places = decode(protocol, regions, area(4), [1], area(0, 64))
    encode(protocol, np.empty((0, 3), np.float32), places)
    assert path.read_bytes() == NUMBERS.tobytes()


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_an_output_that_does_not_fit_is_refused_before_anything_is_written(
    protocol: str, regions: Regions, path: Path
) -> None:
    _, places = decode(protocol, regions, area(4), [1], area(4))
    with pytest.raises(
        RegionTooSmall,
        match=r"^shared memory size specified with the request for output 'y' \(4 bytes\) should "
        "be at least 8 bytes to hold the results$",
    ):
        encode(protocol, np.zeros(2, np.float32), places)
    assert path.read_bytes() == NUMBERS.tobytes()


FAULTS: dict[str, tuple[Parameters, type[ServingError], str]] = {
    "unknown": (area(4, region="q"), NotFound, "Unable to find shared memory region: 'q'"),
    "offset at the end": (area(4, 64), InvalidArgument, "Invalid offset for shared memory"),
    "offset beyond": (area(4, 65), InvalidArgument, "Invalid offset for shared memory region: 'r'"),
    "offset of 2^63 - 1": (area(4, 2**63 - 1), InvalidArgument, "Invalid offset for shared memory"),
    "size beyond": (area(8, 60), InvalidArgument, r"Invalid offset \+ byte size for shared memory"),
    "size that overflows": (area(2**63 - 1, 8), InvalidArgument, r"Invalid offset \+ byte size"),
    "negative offset": (
        area(4, -1),
        InvalidArgument,
        "{}.shared_memory_offset: expected a non-",
    ),
    "negative size": (area(-4), InvalidArgument, "{}.shared_memory_byte_size: expected a non-"),
    "size in words": (area("4"), InvalidArgument, "{}.shared_memory_byte_size: expected a non-"),
    "region of a number": (area(4, region=5), InvalidArgument, "{}.shared_memory_region: expected"),
    "no size": (
        area(None),
        InvalidArgument,
        "'shared_memory_byte_size' must be specified along with 'shared_memory_region' parameter",
    ),
    "size alone": (
        area(4, region=None),
        InvalidArgument,
        "'shared_memory_byte_size' can not be specified without 'shared_memory_region' parameter",
    ),
    "offset alone": (
        area(None, 4, region=None),
        InvalidArgument,
        "'shared_memory_offset' can not be specified without 'shared_memory_region' parameter",
    ),
}


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("is_input", [True, False], ids=["input", "output"])
@pytest.mark.parametrize(("parameters", "kind", "text"), FAULTS.values(), ids=FAULTS.keys())
def test_what_does_not_name_bytes_of_a_region_is_refused(
    protocol: str,
    is_input: bool,
    parameters: Parameters,
    kind: type[ServingError],
    text: str,
    regions: Regions,
) -> None:
    tensors = (parameters, None) if is_input else (area(4), parameters)
    where = rf"{'inputs' if is_input else 'outputs'}\[0\]\.parameters"
    with pytest.raises(kind, match=f"^{text.format(where)}"):
        decode(protocol, regions, tensors[0], [1], tensors[1])


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_bytes_that_do_not_fill_the_shape_are_refused(protocol: str, regions: Regions) -> None:
    with pytest.raises(InvalidArgument, match=r"byte size mismatch for input 'x' .* 4, got 8$"):
        decode(protocol, regions, area(8), [1])


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("tensors", [(area(4), None), ({}, area(4))], ids=["input", "output"])
def test_where_it_is_not_offered_it_is_refused_by_name(
    protocol: str, tensors: tuple[Parameters, Parameters | None]
) -> None:
    where = "inputs" if tensors[1] is None else "outputs"
    source = tensors[0] or {"binary_data_size": 0} if protocol == "rest" else tensors[0]
    with pytest.raises(Unsupported, match=rf"^{where}\[0\]\.parameters\.shared_memory_region: "):
        decode(protocol, None, source, [0], tensors[1])


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_classes_do_not_go_there(protocol: str, regions: Regions) -> None:
    with pytest.raises(InvalidArgument, match=r"'shared_memory_region' and 'classification'$"):
        decode(protocol, regions, area(4), [1], {**area(4), "classification": 1})


def test_a_binary_output_does_not_go_there(regions: Regions) -> None:
    with pytest.raises(InvalidArgument, match=r"'shared_memory_region' and 'binary_data'$"):
        decode("rest", regions, area(4), [1], {**area(4), "binary_data": True})


def test_an_output_there_may_say_that_it_is_not_binary(regions: Regions) -> None:
    _, places = decode("rest", regions, area(4), [1], {**area(4), "binary_data": False})
    assert places.keys() == {"y"}


@pytest.mark.parametrize(
    "other", [{"data": [1]}, {"parameters": area(4) | {"binary_data_size": 4}}]
)
def test_an_input_is_in_one_place_over_rest(other: Parameters, regions: Regions) -> None:
    tensor: dict[str, Any] = {"name": "x", "datatype": "FP32", "shape": [1]}
    tensor |= {"parameters": area(4), **other}
    with pytest.raises(InvalidArgument, match=r"^inputs\[0\]: expected either .*, got both$"):
        rest.decode_infer("m", "", json.dumps({"inputs": [tensor]}).encode(), regions=regions)


def test_an_input_is_in_one_place_over_grpc(regions: Regions) -> None:
    message = service_pb2.ModelInferRequest(model_name="m")
    tensor = message.inputs.add(name="x", datatype="FP32", shape=[1])
    set_parameters(tensor, area(4))
    tensor.contents.fp32_contents.append(1)
    with pytest.raises(InvalidArgument, match=r"^contents field must not be .* shared memory for"):
        proto.decode_infer_with(regions, message)


def test_raw_contents_are_those_of_the_inputs_that_are_not_there(regions: Regions) -> None:
    message = service_pb2.ModelInferRequest(model_name="m")
    for name in "abc":
        message.inputs.add(name=name, datatype="FP32", shape=[1])
    set_parameters(message.inputs[1], area(4, 20))
    message.raw_input_contents.extend(np.float32(value).tobytes() for value in (-1, -3))
    request, _ = proto.decode_infer_with(regions, message)
    assert [tensor.array.item() for tensor in request.inputs] == [-1, 5, -3]
    message.raw_input_contents.append(b"more")
    with pytest.raises(InvalidArgument, match=r"expected one for each of 2 inputs, got 3"):
        proto.decode_infer_with(regions, message)


def test_a_region_is_looked_for_each_time_though_the_rest_of_the_request_is_known(
    regions: Regions,
) -> None:
    numbers = {"name": "a", "datatype": "FP32", "shape": [300], "data": [0.5] * 300}
    there = {"name": "b", "datatype": "FP32", "shape": [4], "parameters": area(16)}
    body = json.dumps({"inputs": [numbers, there]}).encode()
    assert len(body) > 512  # so that its list is taken out
    for _ in range(2):
        request, _ = rest.decode_infer("m", "", body, regions=regions)
        assert request.inputs[1].array.tolist() == [0, 1, 2, 3]
    regions.unregister("r")
    with pytest.raises(NotFound, match="Unable to find shared memory region: 'r'"):
        rest.decode_infer("m", "", body, regions=regions)
