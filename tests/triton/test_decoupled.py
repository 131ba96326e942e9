"""Decoupled models on a real Triton and on ours: none, one or many responses to a request."""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import grpc
import httpx
import pytest
from tritonclient.grpc import service_pb2, service_pb2_grpc

from serving.dtypes import Datatype
from tests.e2e.server import penstock_server
from tests.serving import graphs
from tests.triton.server import triton_server

MODEL: Final = "repeat"
CONFIG: Final = """\
backend: "repeat"
input { name: "IN" data_type: TYPE_INT32 dims: [ -1 ] }
output { name: "OUT" data_type: TYPE_INT32 dims: [ 1 ] }
output { name: "IDX" data_type: TYPE_UINT32 dims: [ 1 ] }
instance_group { count: 1 kind: KIND_CPU }
model_transaction_policy { decoupled: true }
"""
# A model that knows of its one response, as it sends it, that it is the last.
SINGLE: Final = """\
input { name: "IN" data_type: TYPE_INT32 dims: [ -1 ] }
output { name: "OUT" data_type: TYPE_INT32 dims: [ 1 ] }
instance_group { count: 1 kind: KIND_CPU }
model_transaction_policy { decoupled: true }
"""
END: Final = "triton_final_response"
NONE: Final[Sequence[int]] = ()
BODIES: Final = {
    "a request": b'{"inputs":[{"name":"IN","shape":[1],"datatype":"INT32","data":[1]}]}',
    "no inputs": b'{"inputs":[]}',
    "no JSON": b"{",
}


def add(repository: Path, name: str, config: str) -> Path:
    (repository / name / "1").mkdir(parents=True)
    (repository / name / "config.pbtxt").write_text(config)
    return repository / name / "1"


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    repositories = [tmp_path_factory.mktemp(name) for name in ("triton", "ours")]
    for repository in repositories:
        add(repository, MODEL, CONFIG)
    marks = 'parameters { key: "marks_last" value { string_value: "yes" } }'
    add(repositories[0], "single", f'backend: "repeat"\n{SINGLE}{marks}')
    version = add(repositories[1], "single", f'backend: "onnxruntime"\n{SINGLE}')
    zero = graphs.model({"IN": (Datatype.INT32, ["n"])}, {"OUT": (Datatype.INT32, [1])})
    graphs.write(zero, version / "model.onnx")
    with (
        triton_server(repositories[0]) as triton,
        penstock_server("--passport-policy=off", repository=repositories[1]) as ours,
    ):
        yield {"triton": triton, "ours": ours}


def both(servers: dict[str, Any], ask: Callable[[Any], Any]) -> Any:
    """What `ask` learns of both servers, which must be the same."""
    theirs, ours = map(ask, servers.values())
    assert ours == theirs
    return ours


def message(elements: Sequence[int], model: str = MODEL, **parameters: bool) -> Any:
    request = service_pb2.ModelInferRequest(model_name=model, id="a")
    tensor = request.inputs.add(name="IN", datatype="INT32", shape=[len(elements)])
    tensor.contents.int_contents.extend(elements)
    for name, value in parameters.items():
        request.parameters[name].bool_param = value
    return request


def streamed(server: Any, *requests: Any) -> list[Any]:
    """All that a stream answers."""
    with grpc.insecure_channel(server.grpc) as channel:
        stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
        return list(stub.ModelStreamInfer(iter(requests)))


def is_end(answer: Any) -> bool:
    return bool(answer.infer_response.parameters[END].bool_param)


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_rest_refuses_one_response_alike_whatever_the_request(
    servers: dict[str, Any], body: bytes
) -> None:
    def ask(server: Any) -> tuple[int, str]:
        answer = httpx.post(f"http://{server.http}/v2/models/{MODEL}/infer", content=body)
        return answer.status_code, answer.text

    status, text = both(servers, ask)
    assert status == 501
    assert "HTTP end point doesn't support models with decoupled transaction policy" in text


@pytest.mark.parametrize("is_valid", [True, False])
def test_grpc_refuses_one_response_alike_whatever_the_request(
    servers: dict[str, Any], is_valid: bool
) -> None:
    request = message([1]) if is_valid else service_pb2.ModelInferRequest(model_name=MODEL)

    def ask(server: Any) -> tuple[grpc.StatusCode, str]:
        with grpc.insecure_channel(server.grpc) as channel:
            stub = service_pb2_grpc.GRPCInferenceServiceStub(channel)
            with pytest.raises(grpc.RpcError) as caught:
                stub.ModelInfer(request)
        return caught.value.code(), caught.value.details()

    code, details = both(servers, ask)
    assert code is grpc.StatusCode.UNIMPLEMENTED
    assert details == "ModelInfer RPC doesn't support models with decoupled transaction policy"


@pytest.mark.parametrize("elements", [NONE, (7,), (7, 8, 9)], ids=len)
@pytest.mark.parametrize("wants_end", [False, True])
def test_a_stream_answers_alike(
    servers: dict[str, Any], elements: Sequence[int], wants_end: bool
) -> None:
    request = message(elements, triton_enable_empty_final_response=wants_end)

    answers = both(servers, lambda server: streamed(server, request))

    ends = [is_end(answer) for answer in answers]
    assert ends == [False] * len(elements) + [True] * wants_end


@pytest.mark.parametrize("wants_end", [False, True])
def test_one_response_that_is_known_to_be_the_last_says_so_alike(
    servers: dict[str, Any], wants_end: bool
) -> None:
    request = message([0], "single", triton_enable_empty_final_response=wants_end)

    [answer] = both(servers, lambda server: streamed(server, request))

    assert is_end(answer)


def test_several_requests_on_a_stream_are_answered_alike(servers: dict[str, Any]) -> None:
    requests = [message([number] * number) for number in range(4)]

    answers = both(servers, lambda server: streamed(server, *requests))

    assert len(answers) == 6


@pytest.mark.parametrize("elements", [NONE, (7,), (7, 8, 9)], ids=len)
def test_generate_stream_answers_alike(servers: dict[str, Any], elements: Sequence[int]) -> None:
    def ask(server: Any) -> tuple[int, str, list[Any]]:
        url = f"http://{server.http}/v2/models/{MODEL}/generate_stream"
        answer = httpx.post(url, json={"IN": list(elements)})
        events = [
            json.loads(part.removeprefix("data: ")) for part in answer.text.split("\n\n")[:-1]
        ]
        return answer.status_code, answer.headers["content-type"], events

    status, kind, events = both(servers, ask)
    assert (status, kind) == (200, "text/event-stream; charset=utf-8")
    assert [event["OUT"] for event in events] == list(elements)


@pytest.mark.parametrize(("elements", "expected"), [(NONE, 400), ((7,), 200), ((7, 8), 400)])
def test_generate_wants_exactly_one_response_in_tritons_words(
    servers: dict[str, Any], elements: Sequence[int], expected: int
) -> None:
    def ask(server: Any) -> Any:
        url = f"http://{server.http}/v2/models/{MODEL}/generate"
        answer = httpx.post(url, json={"IN": list(elements)})
        # Triton says 200 to what it refuses here.
        assert answer.status_code == (expected if server is servers["ours"] else 200)
        return answer.json()

    assert ("error" in both(servers, ask)) == (expected == 400)


def test_the_configuration_says_so_alike(servers: dict[str, Any]) -> None:
    def ask(server: Any) -> Any:
        document = httpx.get(f"http://{server.http}/v2/models/{MODEL}/config").json()
        return document["model_transaction_policy"]

    assert both(servers, ask) == {"decoupled": True}
