"""Tensors in system shared memory, with the official clients and their own helpers for it."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tritonclient.utils.shared_memory as shm
from tritonclient.utils import InferenceServerException

from tests.e2e.clients import CLIENTS, Client, assert_close, connect
from tests.e2e.conftest import Reference
from tests.e2e.repositories import add_identity
from tests.e2e.scrape import until_pending
from tests.e2e.server import REPOSITORY, Server, penstock_server
from training.data.dataset import Dataset

KEY = f"/penstock-e2e-{os.getpid()}"
ROW = 64 * 4
SCORES = 10 * 4
SIZE = 8 * ROW


@pytest.fixture(scope="module", params=["false", "true"], ids=["copied", "mapped"])
def allowing(request: pytest.FixtureRequest) -> Iterator[Server]:
    """A server on which clients may share memory."""
    flags = ("--allow-client-shm=true", f"--map-client-shm={request.param}")
    with penstock_server(*flags, repository=REPOSITORY) as server:
        yield server


@pytest.fixture(params=CLIENTS)
async def sharing(request: pytest.FixtureRequest, allowing: Server) -> AsyncIterator[Client]:
    """Each of the official clients in turn, of a server on which it may share memory."""
    async with connect(request.param, allowing) as connected:
        yield connected
        await connected.call("unregister_system_shared_memory")


@pytest.fixture
def memory() -> Iterator[Any]:
    """Shared memory as the official client makes it, of which the test knows the key."""
    handle = shm.create_shared_memory_region("region", KEY, SIZE)
    yield handle
    if KEY in shm.mapped_shared_memory_regions():
        shm.destroy_shared_memory_region(handle)


async def regions(client: Client) -> list[Any]:
    answer = await client.call("get_system_shared_memory_status")
    if client.is_grpc:
        return [answer["regions"][name] for name in sorted(answer["regions"])]
    return list(answer)


async def infer(client: Client, inputs: list[Any], outputs: list[Any] | None = None) -> Any:
    return await client.call("infer", "digits-mlp", inputs, outputs=outputs)


def there(module: Any, byte_size: int, offset: int = 0) -> Any:
    """The input of digits-mlp, in the region."""
    item = module.InferInput("features", [byte_size // ROW, 64], "FP32")
    item.set_shared_memory("region", byte_size, offset)
    return item


async def test_regions_come_and_go(sharing: Client, memory: Any) -> None:
    await sharing.call("register_system_shared_memory", "region", KEY, ROW, offset=64)
    await sharing.call("register_system_shared_memory", "other", KEY, SIZE)
    first = {"name": "other", "key": KEY, "offset": 0, "byte_size": SIZE}
    second = {"name": "region", "key": KEY, "offset": 64, "byte_size": ROW}
    assert await regions(sharing) == [first, second]
    await sharing.call("unregister_system_shared_memory", "region")
    assert await regions(sharing) == [first]
    await sharing.call("unregister_system_shared_memory")
    assert await regions(sharing) == []


async def test_tensors_travel_through_memory_in_both_directions(
    sharing: Client, memory: Any, digits: Dataset, reference: Reference
) -> None:
    rows = digits.test_x[:2]
    shm.set_shared_memory_region(memory, [rows])
    await sharing.call("register_system_shared_memory", "region", KEY, SIZE)
    wanted = sharing.module.InferRequestedOutput("logits")
    wanted.set_shared_memory("region", 2 * SCORES, offset=2 * ROW)
    beside = sharing.module.InferRequestedOutput("probabilities")
    result = await infer(sharing, [there(sharing.module, 2 * ROW)], [wanted, beside])
    expected = reference("digits-mlp", rows)
    assert_close(result.as_numpy("probabilities"), expected["probabilities"])
    assert_close(
        shm.get_contents_as_numpy(memory, np.float32, [2, 10], offset=2 * ROW), expected["logits"]
    )


async def test_a_request_that_the_region_cannot_hold_is_refused(
    sharing: Client, memory: Any
) -> None:
    await sharing.call("register_system_shared_memory", "region", KEY, ROW)
    with pytest.raises(InferenceServerException, match="Invalid offset"):
        await infer(sharing, [there(sharing.module, 2 * ROW)])
    wanted = sharing.module.InferRequestedOutput("logits")
    wanted.set_shared_memory("region", SCORES - 1)
    with pytest.raises(InferenceServerException, match="should be at least 40 bytes"):
        await infer(sharing, [there(sharing.module, ROW)], [wanted])


FAULTS = [
    (("region", "/nobody", ROW), "Unable to open shared memory region: '/nobody'"),
    (("region", "/../../etc/passwd", 1), "Unable to open shared memory region: '/../../etc/pass"),
    (("region", KEY, SIZE + 1), "failed to register shared memory region 'region': invalid args"),
    (("region", KEY, SIZE, 1), "failed to register shared memory region 'region': invalid args"),
    (("taken", KEY, SIZE), "shared memory region 'taken' already in manager"),
]


@pytest.mark.parametrize(("region", "message"), FAULTS)
async def test_a_region_that_cannot_be_is_refused(
    sharing: Client, memory: Any, region: tuple[Any, ...], message: str
) -> None:
    await sharing.call("register_system_shared_memory", "taken", KEY, ROW)
    with pytest.raises(InferenceServerException) as raised:
        await sharing.call("register_system_shared_memory", *region)
    assert message in raised.value.message()


async def test_an_unknown_region_is_not_found(sharing: Client) -> None:
    statuses = {"StatusCode.NOT_FOUND", "404"}
    with pytest.raises(InferenceServerException, match="'region'") as raised:
        await sharing.call("get_system_shared_memory_status", "region")
    assert raised.value.status() in statuses
    with pytest.raises(InferenceServerException, match="'region'") as raised:
        await infer(sharing, [there(sharing.module, ROW)])
    assert raised.value.status() in statuses


async def test_memory_that_the_client_cuts_short_or_removes_hurts_nobody_else(
    sharing: Client, memory: Any, digits: Dataset
) -> None:
    await sharing.call("register_system_shared_memory", "region", KEY, SIZE)
    os.truncate(f"/dev/shm{KEY}", ROW)
    with pytest.raises(InferenceServerException, match="no longer as large"):
        await infer(sharing, [there(sharing.module, 2 * ROW)])
    shm.destroy_shared_memory_region(memory)
    # The part that was left is there for as long as the region is registered.
    await infer(sharing, [there(sharing.module, ROW)])
    await sharing.infer("digits-mlp", {"features": digits.test_x[:1]})


async def test_requests_under_way_finish_when_their_region_is_unregistered(tmp_path: Path) -> None:
    add_identity(tmp_path, delay_ms=1000)
    key = f"{KEY}-late"
    handle = shm.create_shared_memory_region("late", key, 16)
    try:
        shm.set_shared_memory_region(handle, [np.array([1.5, 2.5, 0, 0], np.float32)])
        with penstock_server("--allow-client-shm=true", repository=tmp_path) as server:
            async with connect("grpc.aio", server) as client:
                await client.call("register_system_shared_memory", "late", key, 16)
                answers = [asyncio.create_task(echo_number(client, index)) for index in range(2)]
                # One of them runs, the other waits for it.
                assert await until_pending(server, "echo", 1, answers)
                await client.call("unregister_system_shared_memory", "late")
                await asyncio.gather(*answers)
        written = shm.get_contents_as_numpy(handle, np.float32, [4])
        assert written.tolist() == [1.5, 2.5, 1.5, 2.5]
    finally:
        shm.destroy_shared_memory_region(handle)


async def echo_number(client: Client, index: int) -> None:
    """Let a model copy a number two places further in the region `late`."""
    item = client.module.InferInput("x", [1, 1], "FP32")
    item.set_shared_memory("late", 4, offset=4 * index)
    wanted = client.module.InferRequestedOutput("y")
    wanted.set_shared_memory("late", 4, offset=4 * (index + 2))
    await client.connection.infer("echo", [item], outputs=[wanted])


async def test_where_it_is_not_allowed_clients_may_ask_but_not_share(
    client: Client, memory: Any
) -> None:
    assert await regions(client) == []
    await client.call("unregister_system_shared_memory")
    with pytest.raises(InferenceServerException, match="--allow-client-shm=true"):
        await client.call("register_system_shared_memory", "region", KEY, ROW)
    metadata = await client.call("get_server_metadata")
    assert "system_shared_memory" not in metadata["extensions"]


async def test_where_it_is_allowed_the_server_says_so(sharing: Client) -> None:
    metadata = await sharing.call("get_server_metadata")
    assert "system_shared_memory" in metadata["extensions"]
    assert "cuda_shared_memory" not in metadata["extensions"]


async def test_there_is_no_cuda_shared_memory(sharing: Client) -> None:
    answer = await sharing.call("get_cuda_shared_memory_status")
    assert answer == ({"regions": {}} if sharing.is_grpc else [])
    await sharing.call("unregister_cuda_shared_memory")
    with pytest.raises(InferenceServerException, match="GPUs not supported"):
        await sharing.call("register_cuda_shared_memory", "region", b"aGFuZGxl", 0, 64)
