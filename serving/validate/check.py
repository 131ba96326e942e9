"""Checks repositories: what lies in them, then model by model."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from serving.devices import NONE, Gpus
from serving.engine.backends.base import Backend
from serving.engine.repository import Repository
from serving.settings import PassportPolicy
from serving.validate import mistakes
from serving.validate.findings import Finding, Findings, ModelReport
from serving.validate.model import Checker


class Check:
    """One check of all models of some repositories, without serving any of them."""

    def __init__(
        self,
        repositories: Sequence[Path],
        backends: Mapping[str, Backend],
        passports: PassportPolicy = PassportPolicy.WARN,
        run: bool = True,
        gpus: Gpus = NONE,
    ) -> None:
        self._findings = Findings()
        paths = dict.fromkeys(path.absolute() for path in repositories)
        # A repository that cannot be read is told of, and the others are checked all the same.
        readable = [path for path in paths if self._is_readable(path)]
        self._checker = Checker(Repository(readable), backends, passports, run, gpus)

    @property
    def names(self) -> list[str]:
        """The models to check, sorted."""
        return self._checker.names

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What was found about the repositories themselves."""
        return self._findings.all()

    def models(self) -> Iterator[ModelReport]:
        """What is found about each model, as soon as it is checked."""
        yield from map(self._checker.check, self.names)

    def _is_readable(self, path: Path) -> bool:
        names = self._findings.attempt(path, Repository([path]).names)
        for file, hint in mistakes.in_repository(path):
            self._findings.warning(file, hint)
        if names == []:
            self._findings.fault(path, "no model to serve; expected NAME/VERSION/model.onnx")
        return names is not None
