"""Checks a model's folder, configuration and versions, and goes on where a server would stop."""

import time
from collections.abc import Mapping
from pathlib import Path

from serving.config import Proto, parse
from serving.devices import Gpus
from serving.engine.backends.base import Backend
from serving.engine.loading import served_versions
from serving.engine.repository import ModelFolder, Repository
from serving.engine.servable import Opened
from serving.errors import NotFound, Unavailable
from serving.settings import PassportPolicy
from serving.validate import mistakes
from serving.validate.findings import Findings, ModelReport, Verdict
from serving.validate.version import VersionCheck


class Checker:
    """Checks each model once, an ensemble after the models of its steps."""

    def __init__(
        self,
        repository: Repository,
        backends: Mapping[str, Backend],
        passports: PassportPolicy,
        run: bool,
        gpus: Gpus,
    ) -> None:
        self._repository = repository
        self._backends = backends
        self._passports = passports
        self._run = run
        self._gpus = gpus
        self._places = repository.places()
        # None while the model is being checked.
        self._reports: dict[str, ModelReport | None] = {}
        self._opened: dict[str, dict[str, Opened]] = {}

    @property
    def names(self) -> list[str]:
        """The models to check, sorted."""
        return sorted(self._places)

    def check(self, name: str) -> ModelReport:
        """Everything that is wrong with the model `name`; of what is being checked, no more."""
        report = self._reports.get(name)
        if report is None:
            self._reports[name] = None
            report = self._reports[name] = self._report(name)
        return report

    def find(self, model: str, version: str) -> Opened:
        """What a version ("": the latest that is served) is made of, without its sessions.

        NotFound or Unavailable where a server would have none.
        """
        if model not in self._places:
            raise NotFound(f"there is no model '{model}'")
        if model in self._reports and self._reports[model] is None:
            raise Unavailable("it is itself made of this one")
        if self.check(model).verdict is Verdict.FAULTS:
            raise Unavailable("it has faults of its own")
        versions = self._opened[model]
        found = versions.get(version or next(reversed(versions)))
        if found is None:
            raise NotFound(f"model '{model}' serves no version {version}")
        return found

    def _report(self, name: str) -> ModelReport:
        begin = time.monotonic()
        findings = Findings()
        versions: list[int] = []
        place = Path(str(self._places[name][0]), name)
        folder = findings.attempt(place, self._repository.find, name)
        if folder is not None:
            versions = self._check_folder(folder, findings)
        return ModelReport(name, tuple(versions), findings.all(), time.monotonic() - begin)

    def _check_folder(self, folder: ModelFolder, findings: Findings) -> list[int]:
        for path, hint in mistakes.in_model(folder):
            findings.warning(path, hint)
        parsed = None
        if folder.config_text is not None:
            source = folder.source
            parsed = findings.attempt(folder.path, parse, source.text, source.name)
        versions = findings.attempt(folder.path, served_versions, folder, parsed) or []
        _check_policy(folder, parsed, findings)
        opened = self._opened[folder.name] = {}
        for version in versions:
            check = VersionCheck(
                folder,
                version,
                findings,
                self._backends,
                self._passports,
                self._run,
                self.find,
                self._gpus,
            )
            if made_of := check.check(parsed):
                opened[made_of.version] = made_of
        return versions


def _check_policy(folder: ModelFolder, parsed: Proto | None, findings: Findings) -> None:
    """Triton passes over the versions that a policy names and that are not there; so do we."""
    if parsed is None:
        return
    missing = sorted(set(parsed.version_policy.specific.versions) - set(folder.versions))
    if missing:
        findings.warning(
            Path(folder.source.name),
            f"version_policy.specific names {', '.join(map(str, missing))}, for which there is no "
            "folder: add it, or take the number away",
        )
