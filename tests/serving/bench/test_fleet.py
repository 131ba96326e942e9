"""The processes that send requests: they end when nobody wants what they measure any more."""

import os
import signal
import socket
from functools import partial
from typing import Any

import numpy as np
import pytest

from serving.bench.client import messages
from serving.bench.client.fleet import Fleet, Watch, fleet
from serving.bench.client.supply import Turns
from serving.bench.client.worker import Job
from serving.bench.inputs import Sample
from serving.bench.model import Model
from serving.bench.plan import Protocol, Step, Target
from serving.dtypes import Datatype
from serving.types import Tensor, TensorSpec


def job(port: int) -> Job:
    target = Target(Protocol.BINARY, "127.0.0.1", port, "m")
    model = Model("m", (TensorSpec("x", Datatype.FP32, (1,)),), (), None)
    samples = [Sample((Tensor("x", Datatype.FP32, np.zeros(1, np.float32)),))]
    encoded = messages.encode(target, model, samples, (), None)
    return Job(target, model, partial(Turns, encoded), [{}], 1)


def nothing(*_: object) -> None:
    """Nobody listens."""


def exit_codes(clients: Fleet) -> list[Any]:
    return [process.exitcode for process, _ in clients._members]


def test_an_interruption_before_the_first_request_is_heard() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        refused = Step(in_flight=1, duration=5, timeout=0.1)
        with fleet(job(silent.getsockname()[1]), 1) as clients:
            tally = clients.run(refused, Watch(nothing, nothing, nothing, lambda: True))
    assert (tally.answered, tally.failed) == (0, 0)


def test_a_process_whom_nobody_hears_any_more_ends_by_itself() -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with socket.create_server(("127.0.0.1", 0)) as silent:
        unheard = Step(in_flight=1, duration=60, timeout=0.01)
        with pytest.raises(KeyboardInterrupt), fleet(job(silent.getsockname()[1]), 2) as clients:
            clients.run(unheard, Watch(interrupt, nothing, nothing, lambda: False))
    assert exit_codes(clients) == [0, 0]


def test_what_ends_a_command_is_left_to_its_first_process() -> None:
    def end_all(*_: object) -> None:
        for process, _connection in clients._members:
            assert process.pid
            os.kill(process.pid, signal.SIGTERM)

    with socket.create_server(("127.0.0.1", 0)) as silent:
        step = Step(in_flight=1, duration=0.5, timeout=0.01)
        with fleet(job(silent.getsockname()[1]), 1) as clients:
            tally = clients.run(step, Watch(nothing, end_all, nothing, lambda: False))
    assert tally.failed > 0
