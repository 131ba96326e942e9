"""From a folder to an opened version: configuration, passport, sessions, warm-up. May take long."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np

from serving.config import ModelConfig, Proto, choose, complete, parse, resolve
from serving.dtypes import Datatype
from serving.engine.backends.base import Backend, Session
from serving.engine.backends.identity import IdentityBackend
from serving.engine.backends.ort import OrtBackend
from serving.engine.repository import ModelFolder, check_passport
from serving.engine.servable import Opened
from serving.errors import LoadFailed, ServingError
from serving.settings import PassportPolicy
from serving.threads import available_cpus
from serving.types import Array

logger = logging.getLogger("penstock.load")


def default_backends() -> dict[str, Backend]:
    """Every backend of the embedded engine by the name that config.pbtxt gives it."""
    # One processor is left to the gateway: it parses while the model computes.
    return {
        "onnxruntime": OrtBackend(threads=max(1, available_cpus() - 1)),
        "identity": IdentityBackend(),
    }


class Loader:
    """Opens the versions of a model that its policy serves."""

    def __init__(self, backends: dict[str, Backend], passports: PassportPolicy) -> None:
        self._backends = backends
        self._passports = passports

    def open(self, folder: ModelFolder) -> list[Opened]:
        """Every version to serve, ascending, opened and warm; all of them or LoadFailed."""
        text = folder.config_text
        parsed = None if text is None else parse(text, folder.source.name)
        versions = served_versions(folder, parsed)
        opened: list[Opened] = []
        try:
            for version in versions:
                opened.append(self._open_version(folder, version, parsed))  # noqa: PERF401
        except BaseException:
            for other in opened:
                _close(other.sessions)
            raise
        return opened

    def _open_version(self, folder: ModelFolder, version: int, parsed: Proto | None) -> Opened:
        files = folder.filenames(version)
        resolved = resolve(
            parsed, folder.name, folder.source, files=files, backends=tuple(self._backends)
        )
        passport, warnings = check_passport(folder, version, self._passports)
        for warning in warnings:
            logger.warning("%s", warning)
        path = folder.version_path(version)
        backend = self._backends[resolved.backend]
        sessions = [backend.open(resolved, path)]
        try:
            config = complete(resolved, sessions[0].signature, folder.source)
            sessions += [backend.open(resolved, path) for _ in range(config.instance_count - 1)]
            labels = {
                output: folder.labels(name) for output, name in config.label_filenames.items()
            }
            for session in sessions:
                _warm_up(session, config, path)
        except BaseException:
            _close(sessions)
            raise
        return Opened(config, str(version), sessions, labels, passport)


def served_versions(folder: ModelFolder, parsed: Proto | None) -> list[int]:
    """The versions that the policy of a configuration serves; LoadFailed if there is none."""
    versions = choose(parsed, folder.versions)
    if not versions:
        raise LoadFailed(
            f"{folder.path}: no version to serve: the folder has "
            f"{', '.join(map(str, folder.versions)) or 'none'}; versions are folders named 1, "
            "2, … which the version policy of config.pbtxt chooses from"
        )
    return versions


def _close(sessions: Sequence[Session]) -> None:
    for session in sessions:
        session.close()


# A batch size is warm once it ran twice: the first run allocates, the second settles.
_WARM_RUNS: Final = 2


def _warm_up(session: Session, config: ModelConfig, path: Path) -> None:
    """Run every batch size that is likely to occur, so that no client pays for the first time."""
    names = [spec.name for spec in config.outputs]
    for rows in warm_sizes(config):
        for _ in range(_WARM_RUNS):
            try:
                session.run(zeros(config, rows), names)
            except ServingError as error:
                # Some models refuse zeros; that does not make them unfit for real inputs.
                logger.warning("%s: warm-up with %d rows of zeros failed: %s", path, rows, error)
                return


def warm_sizes(config: ModelConfig) -> list[int]:
    """The batch sizes to warm: powers of two, preferred sizes and the largest."""
    largest = max(1, config.max_batch_size)
    powers = {2**exponent for exponent in range(largest.bit_length())}
    preferred = set(config.proto.dynamic_batching.preferred_batch_size)
    return sorted(powers | preferred | {largest})


def zeros(config: ModelConfig, rows: int) -> dict[str, Array]:
    """Inputs of `rows` rows that fit the graph; variable dimensions are 1."""
    arrays = {}
    for spec in config.inputs:
        if spec.optional:
            continue
        dims = tuple(1 if dim == -1 else dim for dim in spec.dims)
        reshape = config.input_reshapes.get(spec.name)
        dims = reshape.to_graph(dims) if reshape else dims
        shape = (rows, *dims) if config.max_batch_size else dims
        empty = b"" if spec.datatype is Datatype.BYTES else 0
        arrays[spec.name] = np.full(shape, empty, dtype=spec.datatype.numpy)
    return arrays
