"""Under load from several clients, reloads lose no request, and no answer is from half a model."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Any, Final

import numpy as np
import tritonclient.grpc
import tritonclient.http

from tests import adders
from tests.e2e.clients import tensor
from tests.e2e.server import Server, penstock_server

CLIENTS: Final = (tritonclient.http, tritonclient.grpc) * 2
RELOADS: Final = 100
CHANGES: Final = 20
EXPLICIT: Final = ("--model-control-mode=explicit", "--load-model=m", "--passport-policy=off")


@dataclass(slots=True)
class Published:
    """What the server may answer by then, a version and its number for each load in order.

    `done` of the loads are over: the last of those serves, and none before it.
    """

    loads: list[tuple[int, int]] = field(default_factory=list)
    done: int = 0


@dataclass(frozen=True, slots=True)
class Answer:
    """What a client was told, and the loads that it may have come from: `first` to `last`."""

    version: int
    number: int
    first: int
    last: int


def ask(module: Any, address: str, published: Published, stop: Event) -> list[Answer]:
    """Every answer until `stop`; what is not answered is raised."""
    answers = []
    with module.InferenceServerClient(address) as client:
        x = [tensor(module, "x", np.zeros((1, 1), np.float32))]
        while not stop.is_set():
            first = published.done - 1
            result = client.infer("m", x)
            said = result.get_response()
            version = said["model_version"] if isinstance(said, dict) else said.model_version
            number = int(result.as_numpy("y")[0, 0])
            answers.append(Answer(int(version), number, first, len(published.loads) - 1))
    return answers


@contextmanager
def asking(server: Server, published: Published) -> Iterator[list[Future[list[Answer]]]]:
    """Clients that ask all the while; their answers are there after the block."""
    stop = Event()
    with ThreadPoolExecutor(len(CLIENTS)) as pool:
        try:
            yield [
                pool.submit(ask, module, address, published, stop)
                for module in CLIENTS
                for address in [server.grpc if "grpc" in module.__name__ else server.http]
            ]
        finally:
            stop.set()


def check(published: Published, asked: list[Future[list[Answer]]]) -> int:
    """Every answer is that of a load of its time, and says so; gives how many there are."""
    answers = [answer for each in asked for answer in each.result()]
    for answer in answers:
        possible = published.loads[answer.first : answer.last + 1]
        assert (answer.version, answer.number) in possible
    assert all(len(each.result()) > RELOADS for each in asked)
    return len(answers)


def test_a_hundred_reloads_and_twenty_changes_of_version_lose_and_mix_up_nothing(
    tmp_path: Path,
) -> None:
    folder = adders.add(tmp_path, "m", 1)
    published = Published([(1, 1)], 1)
    version = number = 1
    with penstock_server(*EXPLICIT, repository=tmp_path) as server:
        with (
            asking(server, published) as asked,
            tritonclient.http.InferenceServerClient(server.http, network_timeout=60) as control,
        ):
            for turn in range(RELOADS + CHANGES):
                number += 1
                is_change = turn % (1 + RELOADS // CHANGES) == 0
                version += is_change
                published.loads.append((version, number))
                adders.publish(folder, version, number)
                control.load_model("m")
                published.done = len(published.loads)
                if is_change:
                    adders.remove(folder, version - 1)
        assert version == 1 + CHANGES
        assert number == 1 + CHANGES + RELOADS
        assert check(published, asked) > len(CLIENTS) * RELOADS
        assert not [line for line in server.log if " ERROR " in line or "Traceback" in line]
        loaded = [line for line in server.log if "penstock.load: loaded m" in line]
        assert len(loaded) == 1 + RELOADS + CHANGES
