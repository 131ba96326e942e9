"""An open loop of real clients: requests go when they are due, answered or not, and are checked."""

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import cycle
from typing import Any, Final, Protocol

import numpy as np
import tritonclient.grpc
import tritonclient.grpc.aio
import tritonclient.http
import tritonclient.http.aio

from bench.peers.base import ROOT
from deploy.sim.replicas import MODEL

REST: Final = "REST"
GRPC: Final = "gRPC"
PROTOCOLS: Final = (REST, GRPC)
SAMPLES: Final = ROOT / "deploy" / "locust" / "samples" / f"{MODEL}.npz"
# How long a client waits, which is longer than Envoy does.
PATIENCE_SECONDS: Final = 10.0
_HEDGE: Final = {"x-penstock-hedge": "true"}
# As far as batches may change a sum of FP32.
_TOLERANCE: Final = 1e-3


@dataclass(frozen=True, slots=True)
class Asked:
    """A request: when it was due and over, in seconds of the monotonic clock; how it failed, if."""

    id: str
    protocol: str
    due: float
    over: float
    failure: str = ""

    @property
    def seconds(self) -> float:
        """From when it was due, so that what waits in the client counts."""
        return self.over - self.due


class Ask(Protocol):
    """Sends the request of a number, and raises unless the right answer comes."""

    async def __call__(self, number: int, headers: dict[str, str]) -> None: ...


def asking(module: Any, client: Any, **options: Any) -> Ask:
    """What asks through `client`, which is tritonclient's, of `module`."""
    with np.load(SAMPLES) as file:
        images, expected = file["image"], file["probabilities"]
    prepared = []
    for image in images:
        tensor = module.InferInput("image", [1, *image.shape], "UINT8")
        tensor.set_data_from_numpy(image[np.newaxis])
        prepared.append([tensor])
    wanted = [module.InferRequestedOutput("probabilities")]

    async def ask(number: int, headers: dict[str, str]) -> None:
        sample = number % len(prepared)
        answer = await client.infer(
            MODEL, prepared[sample], outputs=wanted, headers=headers, **options
        )
        found = answer.as_numpy("probabilities")
        if found is None or not np.allclose(found, expected[sample], atol=_TOLERANCE):
            raise ValueError("a wrong answer")

    return ask


async def load(
    addresses: tuple[str, str], rate: float, hedged: bool, done: Callable[[], bool]
) -> list[Asked]:
    """Ask REST and gRPC in turn, `rate` times a second in all, until `done`; then wait for answers.

    Requests arrive independently of each other, as those of many users do.
    """
    rest = tritonclient.http.aio.InferenceServerClient(
        addresses[0], conn_limit=1000, conn_timeout=PATIENCE_SECONDS
    )
    grpc = tritonclient.grpc.aio.InferenceServerClient(addresses[1])
    async with rest, grpc:
        ways = cycle(
            (
                (REST, asking(tritonclient.http, rest)),
                (GRPC, asking(tritonclient.grpc, grpc, client_timeout=PATIENCE_SECONDS)),
            )
        )
        # The same arrivals in each run.
        draw, number, due = random.Random(7), 0, time.monotonic()
        tasks = []
        while not done():
            due += draw.expovariate(rate)
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            protocol, ask = next(ways)
            tasks.append(asyncio.create_task(_once(ask, protocol, number, due, hedged)))
            number += 1
        return await asyncio.gather(*tasks)


async def _once(ask: Ask, protocol: str, number: int, due: float, hedged: bool) -> Asked:
    headers = {"x-request-id": f"{protocol}-{due:.6f}"} | (_HEDGE if hedged else {})
    failure = ""
    try:
        await ask(number, headers)
    # Whatever a client may raise is this request's failure, and no other's.
    except Exception as error:
        failure = f"{type(error).__name__}: {error}"
    return Asked(headers["x-request-id"], protocol, due, time.monotonic(), failure)
