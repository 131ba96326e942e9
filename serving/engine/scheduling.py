"""How the requests for one version come to its sessions: its configuration decides."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import methodcaller
from typing import Any, TypeAlias

from serving.config import ModelConfig
from serving.engine.backends.base import Session, StoppableSession
from serving.engine.batching import arrivals
from serving.engine.batching.arrivals import ArrivalQueue
from serving.engine.batching.batch import Batch, Executed
from serving.engine.batching.entries import Queue, Step
from serving.engine.batching.forecast import Forecast
from serving.engine.batching.queue import BatchQueue
from serving.engine.batching.sequencer import Sequencer
from serving.engine.execution import Execution
from serving.engine.ragged import RaggedExecution
from serving.engine.sequences import SequenceExecution, SequenceInstance, Steps
from serving.engine.servable import Opened
from serving.engine.validation import Admitted
from serving.threads import available_cpus
from serving.types import Array, BatchPolicy, InferenceRequest

ReadStep: TypeAlias = Callable[[InferenceRequest, Admitted], Step | None]


@dataclass(frozen=True, slots=True)
class Scheduling:
    """What a batcher is made of.

    `queue`     which requests run together
    `execute`   runs a batch of them on one of `slots`, which are the version's instances
    `step`      where in its sequence a request stands; InvalidArgument if it had to say and did not
    `preserve_ordering`  whether answers leave in the order in which the requests came
    `forecast`  how long runs take, as the queue goes by it
    `max_queue` how many requests may wait
    `goal`      of how many rows a batch need not grow
    `stop`      ends what an instance executes; None where it has to run to its end
    `is_full`   whether the queue's next batch may be set aside; None where it may not
    """

    queue: Queue[Any]
    execute: Callable[[Batch[Admitted, Any]], Executed[dict[str, Array]]]
    slots: Sequence[Any]
    step: ReadStep
    preserve_ordering: bool
    forecast: Forecast
    max_queue: int
    goal: int = 1
    stop: Callable[[Any], None] | None = None
    is_full: Callable[[], bool] | None = None


def schedule(opened: Opened, default_max_queue: int) -> Scheduling:
    """The scheduling of `opened`; `default_max_queue` holds where it does not say how many wait."""
    forecast = _forecast(opened)
    if opened.config.has_sequences:
        return _sequences(opened, default_max_queue, forecast)
    policy = opened.config.batch_policy(default_max_queue)
    queue = _queue(policy, forecast)
    return Scheduling(
        queue,
        execution(opened.config),
        opened.sessions,
        _no_step,
        policy.preserve_ordering,
        forecast,
        policy.queue.max_queue,
        policy.goal,
        _stop(opened.sessions),
        # On a single processor the loop has the time that a batch would not have to wait.
        queue.is_full if isinstance(queue, ArrivalQueue) and available_cpus() > 1 else None,
    )


def _stop(sessions: Sequence[Session]) -> Callable[[StoppableSession], None] | None:
    """What ends the run of one of `sessions`, if each can be ended and has an instance's runs."""
    shared = len({id(session) for session in sessions}) < len(sessions)
    if shared or not all(isinstance(session, StoppableSession) for session in sessions):
        return None
    return methodcaller("stop")


def _queue(policy: BatchPolicy, forecast: Forecast) -> Queue[Any]:
    if arrivals.suits(policy):
        return ArrivalQueue(policy)
    return BatchQueue(policy, forecast.lead)


def execution(config: ModelConfig) -> Execution:
    """How batches of requests that belong to no sequences run."""
    return RaggedExecution(config) if config.is_ragged else Execution(config)


def _sequences(opened: Opened, default_max_queue: int, forecast: Forecast) -> Scheduling:
    config = opened.config
    policy = config.sequence_policy(default_max_queue)
    return Scheduling(
        Sequencer(policy, len(opened.sessions), config.name, forecast.lead),
        SequenceExecution(opened),
        [SequenceInstance(session) for session in opened.sessions],
        Steps(config),
        # An instance answers in the order in which it runs, which is all that is asked of it.
        preserve_ordering=False,
        forecast=forecast,
        max_queue=policy.max_queue,
    )


def _forecast(opened: Opened) -> Forecast:
    """What is known from the warm-up, and from that of the sessions that take over later."""
    forecast = Forecast()
    forecast.restart(opened.run_times)
    if opened.acceleration is not None:
        opened.acceleration.watch(forecast.restart)
    return forecast


def _no_step(request: InferenceRequest, admitted: Admitted) -> None:
    """Requests belong to no sequences; what they say of one is for others, as with Triton."""
