"""One server over the committed models for every test that only asks, and the data they know."""

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from functools import cache
from pathlib import Path

import grpc
import httpx
import numpy as np
import onnxruntime
import pytest
from selenium.webdriver.chrome.webdriver import WebDriver

from serving.types import Array
from tests.e2e import asking
from tests.e2e.browser import open_browser
from tests.e2e.clients import CLIENTS, Client, connect
from tests.e2e.server import REPOSITORY, Server, penstock_server
from tests.training.conftest import find_data_dir
from training.data import digits as digits_data
from training.data import mnist as mnist_data
from training.data.dataset import Dataset

# Small enough that a test can exceed it.
INPUT_LIMIT = 1024 * 1024

Reference = Callable[[str, Array], Mapping[str, Array]]


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    with penstock_server(f"--http-max-input-size={INPUT_LIMIT}") as running:
        yield running


@pytest.fixture(scope="session")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WebDriver]:
    with open_browser(tmp_path_factory.mktemp("profile")) as running:
        yield running


@pytest.fixture
def rest(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=60) as client:
        yield client


@pytest.fixture(params=CLIENTS)
async def client(request: pytest.FixtureRequest, server: Server) -> AsyncIterator[Client]:
    """Each of the official clients in turn."""
    async with connect(request.param, server) as connected:
        yield connected


@pytest.fixture(scope="session")
def mnist() -> Dataset:
    folder = find_data_dir()
    if folder is None:
        pytest.skip("no MNIST here: name its folder with PENSTOCK_DATA")
    return mnist_data.load(folder)


@pytest.fixture(scope="session")
def digits() -> Dataset:
    return digits_data.load()


@pytest.fixture(scope="session")
def reference() -> Reference:
    """The outputs of a model on ONNX Runtime itself, without any server."""

    @cache
    def session(path: Path) -> onnxruntime.InferenceSession:
        return onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def run(model: str, rows: Array) -> Mapping[str, Array]:
        graph = session(REPOSITORY / model / "1" / "model.onnx")
        names = [output.name for output in graph.get_outputs()]
        feed = {graph.get_inputs()[0].name: np.ascontiguousarray(rows)}
        return dict(zip(names, graph.run(names, feed), strict=True))

    return run


@pytest.fixture(scope="module")
def channel(server: Server) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(server.grpc) as connected:
        yield connected


@pytest.fixture(scope="module")
def http(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=60) as client:
        yield client


@pytest.fixture(scope="module")
def unbroken(server: Server) -> Iterator[None]:
    """After all tests of the module the server answers, and was never surprised."""
    yield
    good = asking.Request()
    with httpx.Client(base_url=server.url) as client:
        assert asking.send_json(client, good).status == 200
        assert asking.send_binary(client, good).status == 200
    with grpc.insecure_channel(server.grpc) as connected:
        assert asking.send_grpc(connected, good).status == "OK"
    assert not [line for line in server.log if " ERROR " in line or "Traceback" in line]
