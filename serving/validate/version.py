"""Checks one version of a model: what a server would load of it, in the same order."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Final

from tritonclient.grpc import model_config_pb2

from serving import passport
from serving.config import (
    ModelConfig,
    Proto,
    complete,
    complete_ensemble,
    is_ensemble,
    placements,
    resolve,
)
from serving.devices import Gpus
from serving.dtypes import Datatype
from serving.engine.backends.base import Backend, Session
from serving.engine.backends.ort import DEFAULT_FILENAME
from serving.engine.ensemble import FindOpened, check_steps
from serving.engine.repository import ModelFolder, check_passport
from serving.engine.servable import Opened
from serving.engine.warmup import warm_up, zeros
from serving.errors import ServingError
from serving.settings import PassportPolicy
from serving.types import Array, TensorSpec
from serving.validate import mistakes
from serving.validate.findings import Findings

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
class VersionCheck:
    """What there is to know for the check of one version, and where its findings go.

    `run` tells whether it answers a batch, `find` the models of an ensemble's steps, `gpus` what
    it may execute on beside the CPU.
    """

    folder: ModelFolder
    number: int
    findings: Findings
    backends: Mapping[str, Backend]
    passports: PassportPolicy
    run: bool
    find: FindOpened
    gpus: Gpus

    @property
    def path(self) -> Path:
        """The version's own folder."""
        return self.folder.version_path(self.number)

    def check(self, parsed: Proto | None) -> Opened | None:
        """What the version is made of, its sessions aside; None where that cannot be known."""
        self._check_passport()
        resolved = self._resolve(parsed)
        for path, hint in mistakes.for_model_file(self.path, _model_file(resolved, parsed)):
            self.findings.warning(path, hint)
        if resolved is None:
            return None
        if is_ensemble(resolved):
            return self._check_ensemble(resolved)
        backend = self.backends[resolved.backend]
        session = self.findings.attempt(
            self.path, backend.open, resolved, self.path, placements(resolved)[0]
        )
        if session is None:
            return None
        try:
            return self._check_session(session, resolved)
        finally:
            session.close()

    def _check_passport(self) -> None:
        """Hear what is not proven one by one, rather than be refused for all of it."""
        required = self.passports is PassportPolicy.REQUIRE
        policy = PassportPolicy.WARN if required else self.passports
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
        if parsed is not None or self.folder.config_text is None:
            resolved = self.findings.attempt(self.folder.path, self._resolve_with, files, parsed)
            if resolved is not None or (parsed is not None and is_ensemble(parsed)):
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
            backends=tuple(self.backends),
            gpus=self.gpus,
        )

    def _check_ensemble(self, resolved: Proto) -> Opened | None:
        place, source = self.folder.path, self.folder.source
        config = self.findings.attempt(place, complete_ensemble, resolved, source)
        if config is None:
            return None
        self.findings.attempt(place, check_steps, config, self.find)
        return self._opened(config)

    def _check_session(self, session: Session, resolved: Proto) -> Opened | None:
        place, source = self.folder.path, self.folder.source
        config = self.findings.attempt(place, complete, resolved, session.signature, source)
        if config is None:
            return None
        opened = self._opened(config)
        if self.run and config.warmup_samples:
            self.findings.attempt(place, warm_up, session, config, self.folder)
        elif self.run:
            self._run_zeros(session, config)
        return opened

    def _opened(self, config: ModelConfig) -> Opened:
        specs = {spec.name: spec for spec in config.outputs}
        labels = {}
        for output, filename in config.label_filenames.items():
            read = self.findings.attempt(self.folder.path, self.folder.labels, filename)
            if read is not None:
                labels[output] = read
                path = self.folder.path / filename
                _check_labels(path, read, specs[output], self.findings)
        return Opened(config, str(self.number), (), labels)

    def _run_zeros(self, session: Session, config: ModelConfig) -> None:
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
        if config.max_batch_size and not config.is_ragged:
            for name, array in zip(names, arrays, strict=True):
                _check_rows(name, array, rows, self.path, self.findings)


def _check_labels(path: Path, labels: Sequence[str], spec: TensorSpec, findings: Findings) -> None:
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
