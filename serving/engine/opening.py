"""The sessions of a version: where each is opened, and what is left to be built aside."""

import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Final

from serving.config import ModelConfig, Placement, Proto, placements
from serving.dtypes import Datatype
from serving.engine.acceleration import Acceleration, Successor
from serving.engine.backends.base import Session
from serving.engine.backends.exchangeable import Exchangeable
from serving.engine.backends.runtime import lets_others_run
from serving.engine.parity import Reference
from serving.engine.repository import ModelFolder
from serving.engine.warmup import telling_inputs, warm_up
from serving.errors import LoadFailed

logger = logging.getLogger("penstock.load")

# The backend whose sessions run and hold nothing between two runs, so that they can be exchanged.
_EXCHANGED: Final = "onnxruntime"


class Opening:
    """Opens the sessions of one version, one for each of its placements."""

    def __init__(self, open_at: Callable[[Placement], Session], config: Proto) -> None:
        self._open_at = open_at
        self._config = config
        self._wanted = self._places = placements(config)

    def first(self, aside: bool) -> Session:
        """The first session; LoadFailed if it cannot be opened.

        With `aside` it is opened without its accelerator, and so will the others be; unless that
        alone can execute the graph, as one that holds an engine which was built before.
        """
        plain = [place.plain for place in self._wanted]
        if aside and plain != self._wanted and self._can_build_aside():
            try:
                session = self._open_at(plain[0])
            except LoadFailed as error:
                self._tell(f"nothing else can execute it: {error.message}")
            else:
                self._places = plain
                return session
        return self._open_at(self._wanted[0])

    def _can_build_aside(self) -> bool:
        if self._config.backend != _EXCHANGED:
            return False
        if not lets_others_run():
            self._tell("this ONNX Runtime would stop all that serves meanwhile; 1.31 does not")
            return False
        return True

    def _tell(self, why: str) -> None:
        accelerated = next(place for place in self._wanted if place.accelerator)
        logger.info(
            "%s: %s is built before it serves: %s", self._config.name, accelerated.accelerator, why
        )

    def others(self) -> Iterator[Session]:
        """All sessions but the first, each as it is opened."""
        return map(self._open_at, self._places[1:])

    def accelerated(
        self, sessions: Sequence[Session], config: ModelConfig, folder: ModelFolder, version: int
    ) -> tuple[list[Session], Acceleration | None]:
        """The sessions, of which those can be exchanged that lack their accelerator; and with what.

        They are warm, and asked for the answers that their successors will have to give.
        """
        if self._places == self._wanted:
            return list(sessions), None
        served = list(sessions)
        successors = []
        for index, (wanted, place) in enumerate(zip(self._wanted, self._places, strict=True)):
            if wanted != place:
                served[index] = slot = Exchangeable(sessions[index])
                successors.append(Successor(slot, wanted, partial(self._open_at, wanted)))
        reference = Reference(
            successors[0].slot,
            _outputs(config),
            telling_inputs(config, folder),
            config.accelerator_tolerance,
        )
        warm = partial(warm_up, config=config, folder=folder)
        what = f"{config.name} version {version}"
        return served, Acceleration(what, successors, warm, reference)


def _outputs(config: ModelConfig) -> dict[str, Datatype]:
    """What the graph gives that reaches clients, or comes back with the next step."""
    states = {state.output_name: state.datatype for state in config.states}
    return states | {spec.name: spec.datatype for spec in config.outputs}
