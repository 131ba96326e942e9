"""A search from its first trial to the winner's checkpoint."""

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Protocol

from torch import nn

from export.errors import ConversionFailed
from export.search import latency
from export.search.space import Candidate, candidate, listed, own_point, shape, space
from export.search.study import Outcome, Study
from training import checkpoint as checkpoints
from training import locks, loop, provenance, state, tasks, validation
from training.catalog import RECIPES
from training.checkpoint import Checkpoint
from training.config import TrainConfig
from training.curve import Epoch
from training.data.dataset import Dataset
from training.errors import CheckpointError, DivergenceError, StateError, UnfitStateError

TRIALS, TABLE, PICTURE, WINNER = "trials.db", "trials.csv", "pareto.png", "winner"


@dataclass(frozen=True, slots=True)
class Budget:
    """Where a search ends: so many trials in all, those of earlier runs among them; and no new one
    so many seconds after it was begun or gone on with."""

    trials: int
    seconds: float


class Listener(Protocol):
    """Who is told how far a search is: a trial begins behind so many others, has batches and
    epochs, and ends."""

    def begins(self, ended: int) -> None: ...

    def epoch(self, row: Epoch) -> None: ...

    def batch(self) -> None: ...

    def ends(self, outcome: Outcome) -> None: ...


class Search:
    """To be closed."""

    def __init__(self, recipe: str, config: TrainConfig, dataset: Dataset, folder: Path) -> None:
        """Opens the search in `folder`, or begins one there. Raises TrainingError for a folder of
        something else, or in which another process searches."""
        self._recipe, self._dataset, self._folder = recipe, dataset, folder
        self._config = loop.on_device(config)
        known = RECIPES[recipe]
        self._task = tasks.make(known.task, dataset.normalisation)
        self._held_out = validation.held_out(dataset)
        _claim(folder)
        identity = {
            "recipe": recipe,
            "configuration": asdict(self._config),
            "data": dataset.sha256,
            "space": listed(space(known)),
            "training code": provenance.code_sha256("training"),
        }
        with ExitStack() as opened:
            opened.enter_context(_held(folder))
            self._study = Study(folder / TRIALS, identity, space(known), own_point(known))
            opened.callback(self._study.close)
            self._opened = opened.pop_all()

    def close(self) -> None:
        self._opened.close()

    def outcomes(self) -> list[Outcome]:
        return self._study.outcomes()

    def run(self, budget: Budget, listener: Listener) -> None:
        """Trials until the budget is spent."""
        until = time.monotonic() + budget.seconds
        while len(before := self.outcomes()) < budget.trials and time.monotonic() < until:
            trial = self._study.ask()
            listener.begins(len(before))
            try:
                error, took = self._try(trial.params, before, listener)
            except DivergenceError:
                self._study.tell_failed(trial, "diverged")
            except ConversionFailed:
                self._study.tell_failed(trial, "no export")
            else:
                self._study.tell(trial, error, took)
            listener.ends(self.outcomes()[-1])

    def train(self, winner: Outcome, listener: Listener) -> Checkpoint:
        """The winner, on all of the training data this time, as a checkpoint like any other."""
        output = self._folder / WINNER
        unfinished = state.path_for(output)
        try:
            checkpoint, model = self._train(winner, listener, unfinished)
        except UnfitStateError:  # of who had won before there were more trials
            state.remove(unfinished)
            checkpoint, model = self._train(winner, listener, unfinished)
        saved = checkpoints.save(output, checkpoint, model)
        state.remove(unfinished)
        return saved

    def _train(
        self, winner: Outcome, listener: Listener, unfinished: Path
    ) -> tuple[Checkpoint, nn.Module]:
        chosen = self._candidate(winner.point)
        return loop.train(
            self._recipe,
            chosen.config,
            self._dataset,
            listener.batch,
            listener.epoch,
            architecture=chosen.architecture,
            state=unfinished,
        )

    def _try(
        self, point: dict[str, Any], before: list[Outcome], listener: Listener
    ) -> tuple[float, float]:
        """The error on what is held out, and the latency in microseconds."""
        chosen = self._candidate(point)
        checkpoint, model = loop.train(
            self._recipe,
            chosen.config,
            self._held_out,
            listener.batch,
            listener.epoch,
            architecture=chosen.architecture,
        )
        metrics = checkpoint.metrics
        accuracy = metrics.get("test_accuracy")  # of what stands in the place of the test set
        error = metrics["test_loss"] if accuracy is None else 1 - accuracy
        for other in before:
            if not other.failure and shape(other.point) == shape(point):
                return error, other.latency
        return error, latency.measure(checkpoint, model, self._held_out.test_x)

    def _candidate(self, point: dict[str, Any]) -> Candidate:
        return candidate(RECIPES[self._recipe], self._config, point)


def _claim(folder: Path) -> None:
    """Raises CheckpointError for a folder of other files."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        holds = [path.name for path in folder.iterdir()]
    except OSError as error:
        raise CheckpointError(f"{folder}: cannot be written ({error.strerror})") from error
    if holds and TRIALS not in holds:
        raise CheckpointError(
            f"{folder}: holds {min(holds)} and no search; choose another folder with --output"
        )


@contextmanager
def _held(folder: Path) -> Iterator[None]:
    """For the block, this process alone searches in `folder`, for as long as it lives."""
    with ExitStack() as stack:
        try:
            stack.enter_context(locks.held(folder.resolve()))
        except BlockingIOError as error:
            raise StateError(
                f"{folder}: another process searches in it; wait for its end, or choose another "
                "folder with --output"
            ) from error
        except OSError as error:
            raise StateError(f"{folder}: cannot be locked ({error.strerror})") from error
        yield
