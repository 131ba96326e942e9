"""Checks one model as a server would load it, and goes on where the server would stop."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Final

from tritonclient.grpc import model_config_pb2

from serving import passport
from serving.config import ModelConfig, Proto, complete, parse, resolve
from serving.dtypes import Datatype
from serving.engine.backends.base import Backend, Session
from serving.engine.backends.ort import DEFAULT_FILENAME
from serving.engine.loading import served_versions
from serving.engine.repository import ModelFolder, Repository, check_passport
from serving.engine.warmup import zeros
from serving.errors import ServingError
from serving.settings import PassportPolicy
from serving.types import Array, TensorSpec
from serving.validate import mistakes
from serving.validate.findings import Findings, ModelReport

# All that has to do with the graph: what a configuration is held to where the rest is at fault.
_ABOUT_THE_GRAPH: Final = (
    "platform",
    "backend",
    "default_model_filename",
    "max_batch_size",
    "input",
    "output",
)
# A graph may state a variable batch dimension and yet have one row fixed inside.
_ROWS: Final = 2


@dataclass(frozen=True, slots=True)
class Checker:
    """What a check needs; `run` tells whether each version answers a batch of zeros."""

    repository: Repository
    backends: Mapping[str, Backend]
    passports: PassportPolicy
    run: bool

    def check(self, name: str, place: Path) -> ModelReport:
        """Everything that is wrong with the model `name`, whose folder is `place`."""
        begin = time.monotonic()
        findings = Findings()
        versions: list[int] = []
        folder = findings.attempt(place, self.repository.find, name)
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
        for version in versions:
            _Version(self, folder, version, findings).check(parsed)
        return versions


@dataclass(frozen=True, slots=True)
class _Version:
    """One version to check."""

    checker: Checker
    folder: ModelFolder
    number: int
    findings: Findings

    @property
    def path(self) -> Path:
        return self.folder.version_path(self.number)

    def check(self, parsed: Proto | None) -> None:
        self._check_passport()
        resolved = self._resolve(parsed)
        for path, hint in mistakes.for_model_file(self.path, _model_file(resolved, parsed)):
            self.findings.warning(path, hint)
        if resolved is None:
            return
        backend = self.checker.backends[resolved.backend]
        session = self.findings.attempt(self.path, backend.open, resolved, self.path)
        if session is None:
            return
        try:
            self._check_session(session, resolved)
        finally:
            session.close()

    def _check_passport(self) -> None:
        """Hear what is not proven one by one, rather than be refused for all of it."""
        required = self.checker.passports is PassportPolicy.REQUIRE
        policy = PassportPolicy.WARN if required else self.checker.passports
        found = self.findings.attempt(self.path, check_passport, self.folder, self.number, policy)
        for warning in found[1] if found else ():
            tell = self.findings.fault if required else self.findings.warning
            tell(self.path / passport.FILENAME, warning)

    def _resolve(self, parsed: Proto | None) -> Proto | None:
        """What can be opened: all of the configuration, or, if that is at fault, what is left.

        A text that did not parse leaves nothing, so that all is read from the graph.
        """
        files = self.findings.attempt(self.path, self.folder.filenames, self.number)
        if files is None:
            return None
        legible = parsed is not None or self.folder.config_text is None
        if legible:
            resolved = self.findings.attempt(self.folder.path, self._resolve_with, files, parsed)
            if resolved is not None:
                return resolved
        try:
            return self._resolve_with(files, _about_the_graph(parsed))
        except ServingError:
            return None  # whose reasons were told above

    def _resolve_with(self, files: Sequence[str], parsed: Proto | None) -> Proto:
        return resolve(
            parsed,
            self.folder.name,
            self.folder.source,
            files=files,
            backends=tuple(self.checker.backends),
        )

    def _check_session(self, session: Session, resolved: Proto) -> None:
        config = self.findings.attempt(
            self.folder.path, complete, resolved, session.signature, self.folder.source
        )
        if config is None:
            return
        for spec in config.outputs:
            if filename := config.label_filenames.get(spec.name):
                _check_labels(self.folder, filename, spec, self.findings)
        if self.checker.run:
            self._run(session, config)

    def _run(self, session: Session, config: ModelConfig) -> None:
        rows = min(_ROWS, config.max_batch_size) or 1
        batch = f" in a batch of {rows} rows" if config.max_batch_size else ""
        names = [spec.name for spec in config.outputs]
        try:
            arrays = session.run(zeros(config, rows), names)
        except ServingError as error:
            self.findings.warning(
                self.path,
                f"a run on zeros{batch} failed, so that requests may fail as well, unless the "
                f"model refuses zeros on purpose: {error.message.strip()}",
            )
            return
        if config.max_batch_size:
            for name, array in zip(names, arrays, strict=True):
                _check_rows(name, array, rows, self.path, self.findings)


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


def _check_labels(folder: ModelFolder, filename: str, spec: TensorSpec, findings: Findings) -> None:
    labels = findings.attempt(folder.path, folder.labels, filename)
    if labels is None:
        return
    path = folder.path / filename
    if spec.datatype in (Datatype.BYTES, Datatype.BF16):
        findings.warning(
            path,
            f"labels of output '{spec.name}', which is {spec.datatype.wire} and cannot be "
            "classified: remove its label_filename",
        )
    elif -1 not in spec.dims and len(labels) != (classes := prod(spec.dims)):
        findings.warning(
            path,
            f"names {len(labels)} classes, and output '{spec.name}' has {classes} "
            f"(dims {list(spec.dims)}): write one line for each class, in their order",
        )


def _check_rows(name: str, array: Array, rows: int, path: Path, findings: Findings) -> None:
    """Requests that share a batch are told apart in its outputs by their rows."""
    if array.shape[:1] != (rows,):
        findings.fault(
            path,
            f"output '{name}' of a batch of {rows} rows has the shape {list(array.shape)}: export "
            "the model so that every output keeps the batch dimension, or write max_batch_size: 0 "
            "and whole shapes",
        )


def _model_file(resolved: Proto | None, parsed: Proto | None) -> str:
    """The file that a version should have; "" for a backend that opens none."""
    if resolved is not None:
        return str(resolved.default_model_filename)
    return (parsed and parsed.default_model_filename) or DEFAULT_FILENAME


def _about_the_graph(parsed: Proto | None) -> Proto:
    """The part of a configuration that a graph can contradict."""
    part = model_config_pb2.ModelConfig()
    if parsed is not None:
        part.CopyFrom(parsed)
    for field, _ in part.ListFields():
        if field.name not in _ABOUT_THE_GRAPH:
            part.ClearField(field.name)
    return part
