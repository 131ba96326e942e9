"""The trials of one search, kept by optuna in a database: a search that was stopped goes on.

Two things are made small at once: the error on samples that are held out of the training data, and
the latency as served. The test set has no part in it.
"""

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.samplers import TPESampler
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, Trial, TrialState
from sqlalchemy.exc import DBAPIError, SQLAlchemyError
from sqlalchemy.pool import NullPool

from export.search.space import Space, Value
from training.errors import StateError

_IDENTITY, _FAILURE = "identity", "failure"


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of one trial, counted from 1. `error` is the share answered wrongly, or the loss where
    nothing is right or wrong; `latency` is in microseconds; infinite where it failed."""

    number: int
    point: dict[str, Any]
    error: float = math.inf
    latency: float = math.inf
    failure: str = ""  # in a word, where it failed


class Study:
    """One process at a time may work on it. To be closed."""

    def __init__(
        self, path: Path, identity: Mapping[str, Any], space: Space, first: Mapping[str, Value]
    ) -> None:
        """Opens what lies at `path`, or begins with the point `first`. Raises StateError for what
        is no study, or one of something else than `identity`."""
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self._space = space
        try:
            # Without a pool, no connection stays behind where optuna fails amid its own start.
            self._storage = RDBStorage(f"sqlite:///{path}", {"poolclass": NullPool})
            self._study = optuna.create_study(
                storage=self._storage,
                study_name="search",
                directions=["minimize", "minimize"],
                load_if_exists=True,
            )
        except (SQLAlchemyError, RuntimeError) as error:
            why = error.orig if isinstance(error, DBAPIError) else error  # without the statement
            raise StateError(f"{path}: not a search that can go on ({why})") from error
        try:
            self._claim(path, json.loads(json.dumps(identity)))
        except StateError:
            self.close()
            raise
        self._study.enqueue_trial(dict(first), skip_if_exists=True)
        self._take_up_again()
        # Not what an earlier process has drawn already.
        self._study.sampler = TPESampler(seed=len(self._study.trials))

    def close(self) -> None:
        self._storage.remove_session()
        self._storage.engine.dispose()

    def outcomes(self) -> list[Outcome]:
        """Of all trials that have come to their end, in their order."""
        trials = self._study.get_trials(deepcopy=False)
        return [outcome for outcome in map(_outcome, trials) if outcome is not None]

    def ask(self) -> Trial:
        """A new trial, `params` its point."""
        return self._study.ask(dict(self._space))

    def tell(self, trial: Trial, error: float, latency: float) -> None:
        self._study.tell(trial, [error, latency])

    def tell_failed(self, trial: Trial, failure: str) -> None:
        trial.set_user_attr(_FAILURE, failure)
        self._study.tell(trial, state=TrialState.FAIL)

    def _claim(self, path: Path, identity: dict[str, Any]) -> None:
        known = self._study.user_attrs.get(_IDENTITY)
        if known is None:
            self._study.set_user_attr(_IDENTITY, identity)
        elif changes := [name for name in identity if identity[name] != known.get(name)]:
            raise StateError(
                f"{path}: a search with another {' and '.join(changes)}. Search as it did to go "
                "on, or choose another folder with --output."
            )

    def _take_up_again(self) -> None:
        """Whoever ran these trials was stopped in the middle of them."""
        for trial in self._study.get_trials(states=(TrialState.RUNNING,)):
            self._study.enqueue_trial(trial.params)
            self._study.tell(trial.number, state=TrialState.FAIL)


def front(outcomes: Iterable[Outcome]) -> list[Outcome]:
    """Those that no other beats in both error and latency, the fastest first."""
    best: list[Outcome] = []
    for one in sorted(outcomes, key=lambda each: (each.latency, each.error)):
        if one.error < (best[-1].error if best else math.inf):
            best.append(one)
    return best


def winner(outcomes: Iterable[Outcome], max_latency: float = math.inf) -> Outcome | None:
    """The one with the smallest error of those that are fast enough; None where none is."""
    fast = [each for each in front(outcomes) if each.latency <= max_latency]
    return fast[-1] if fast else None


def _outcome(trial: FrozenTrial) -> Outcome | None:
    number = trial.number + 1
    if trial.state is TrialState.COMPLETE:
        return Outcome(number, trial.params, *trial.values)
    if failure := trial.user_attrs.get(_FAILURE):
        return Outcome(number, trial.params, failure=failure)
    return None  # it is under way, or was stopped
