"""From a folder to an opened version: configuration, passport, sessions, warm-up. May take long."""

import logging
from collections.abc import Sequence

from serving.config import Proto, choose, complete, parse, resolve
from serving.engine.backends.base import Backend, Session
from serving.engine.backends.identity import IdentityBackend
from serving.engine.backends.ort import OrtBackend
from serving.engine.repository import ModelFolder, check_passport
from serving.engine.servable import Opened
from serving.engine.warmup import warm_up
from serving.errors import LoadFailed
from serving.settings import PassportPolicy
from serving.threads import available_cpus

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
            instances = config.instance_sessions
            sessions += [backend.open(resolved, path) for _ in range(max(instances))]
            labels = {
                output: folder.labels(name) for output, name in config.label_filenames.items()
            }
            for session in sessions:
                warm_up(session, config, folder)
        except BaseException:
            _close(sessions)
            raise
        shared = [sessions[index] for index in instances]
        return Opened(config, str(version), shared, labels, passport)


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
