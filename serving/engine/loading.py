"""From a folder to an opened version: configuration, passport, sessions, warm-up. May take long."""

import logging
import time
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from functools import partial

from serving.config import (
    Completion,
    ModelConfig,
    Proto,
    Source,
    choose,
    complete,
    complete_ensemble,
    dependencies,
    instance_sessions,
    is_ensemble,
    parse,
    placements,
    resolve,
    within,
)
from serving.devices import NONE, Gpus
from serving.engine.backends.base import Backend, Session
from serving.engine.backends.generation import GenerationBackend
from serving.engine.backends.identity import IdentityBackend
from serving.engine.backends.ort import OrtBackend
from serving.engine.backends.repeat import RepeatBackend
from serving.engine.gpu_memory import told
from serving.engine.opening import Opening
from serving.engine.repository import (
    CONFIG_FILENAME,
    ModelFolder,
    Repository,
    check_passport,
    is_version,
)
from serving.engine.sequences import read_initial_states
from serving.engine.servable import Opened
from serving.engine.snapshot import Snapshot, take
from serving.engine.warmup import warm_up
from serving.errors import Elsewhere, LoadFailed, ServingError
from serving.settings import PassportPolicy
from serving.threads import processors

logger = logging.getLogger("penstock.load")


def default_backends() -> dict[str, Backend]:
    """Every backend of the embedded engine by the name that config.pbtxt gives it."""
    runtime = OrtBackend(threads=processors().for_models)
    return {
        "onnxruntime": runtime,
        "generation": GenerationBackend(runtime),
        "identity": IdentityBackend(),
        "repeat": RepeatBackend(),
    }


@dataclass(frozen=True, slots=True)
class Planned:
    """One version as it is to be opened.

    `config` is resolved, as far as it is without the graph. `made_of` is equal for two plans
    between which nothing has changed that would make the version answer otherwise.
    """

    config: Proto
    made_of: Hashable


@dataclass(frozen=True, slots=True)
class Override:
    """A configuration in the place of config.pbtxt, for as long as the folder stays as it was.

    `snapshot` None puts it in the place of whatever is there.
    """

    config: Proto
    snapshot: Snapshot | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """A model as it is to be served: the versions that its policy chooses, ascending.

    `snapshot` is that of its folder before anything of it was opened, `parts` the models that have
    to be loaded before, `override` the configuration that stands for config.pbtxt, if one does.
    """

    folder: ModelFolder
    snapshot: Snapshot
    source: Source
    parts: tuple[str, ...]
    versions: Mapping[int, Planned]
    override: Override | None


class NoVersion(LoadFailed):
    """The version policy of a model leaves none to serve."""


class VersionFailed(LoadFailed):
    """`version` of a model could not be opened."""

    def __init__(self, version: int, message: str) -> None:
        super().__init__(message)
        self.version = version


def why(error: Exception) -> str:
    """What is told of a version that could not be opened; a fault of ours is logged as well."""
    if isinstance(error, ServingError):
        return error.message
    logger.error("a version could not be opened", exc_info=error)
    return f"{error!r}; see the server's log"


class Loader:
    """Finds out what there is to open of a model, and opens it."""

    def __init__(
        self,
        backends: dict[str, Backend],
        passports: PassportPolicy,
        completion: Completion | None = None,
        retries: int = 0,
        gpus: Callable[[], Gpus] = lambda: NONE,
        builds_aside: bool = False,
    ) -> None:
        """A version that fails to open is tried again `retries` times.

        `gpus` tells what there is beside the CPU; it is asked for each plan, and may take long.
        With `builds_aside` versions are opened without accelerators that have to be built, as far
        as they can do without, and these are left to be built later.
        """
        self._backends = backends
        self._passports = passports
        self._completion = completion or Completion()
        self._retries = retries
        self._gpus = gpus
        self._builds_aside = builds_aside

    def plan(self, repository: Repository, name: str, override: Override | None = None) -> Plan:
        """What is to be served of the model `name` as it lies in `repository` now.

        LoadFailed where its configuration cannot be served, NoVersion where that leaves nothing to
        serve, Elsewhere where others serve it, and what `Repository.find` raises.
        """
        folder = repository.find(name)
        snapshot = take(folder)
        source = folder.source
        if override and override.snapshot in (None, snapshot):
            source = Source(f"the configuration that '{name}' is loaded with")
            config, override = override.config, Override(override.config, snapshot)
        else:
            config, override = self._parsed(folder), None
        planned = {
            version: self._planned(folder, snapshot, version, config, source)
            for version in served_versions(folder, config)
        }
        if not any(self._is_here(each.config) for each in planned.values()):
            raise Elsewhere(f"'{name}' has no instance on the GPUs of this process")
        return Plan(folder, snapshot, source, dependencies(config), planned, override)

    def _is_here(self, config: Proto) -> bool:
        """Whether this process has an instance, or whatever is served without any."""
        return not config.instance_group or bool(within(config, self._gpus()).instance_group)

    def _parsed(self, folder: ModelFolder) -> Proto | None:
        """The folder's own configuration; None if it has none, and LoadFailed if it must have."""
        if folder.config_text is not None:
            return parse(folder.config_text, folder.source.name)
        if self._completion.must_be_complete:
            raise LoadFailed(
                f"{folder.place}: has no {CONFIG_FILENAME}, and nothing is completed: write "
                "one, as penstock config does, or start without --disable-auto-complete-config"
            )
        return None

    def open(self, plan: Plan, versions: Iterable[int]) -> list[Opened]:
        """These of the plan's versions, opened and warm; all of them, or VersionFailed."""
        opened: list[Opened] = []
        for version in versions:
            try:
                opened.append(self._try_version(plan, version))
            except BaseException as error:
                for other in opened:
                    close(other.sessions)
                if isinstance(error, Exception):
                    raise VersionFailed(version, plan.folder.told(why(error))) from error
                raise
        return opened

    def _measured(self, plan: Plan, version: int) -> Opened:
        """As `_open_version`; what it takes of the GPUs is logged."""
        config = plan.versions[version].config
        with told(f"loaded {plan.folder.name} version {version}", placements(config)):
            return self._open_version(plan, version)

    def _try_version(self, plan: Plan, version: int) -> Opened:
        for attempt in range(1, self._retries + 1):
            try:
                return self._measured(plan, version)
            except ServingError as error:
                logger.warning(
                    "%s version %d: attempt %d of %d failed: %s",
                    plan.folder.name,
                    version,
                    attempt,
                    self._retries + 1,
                    error.message,
                )
        return self._measured(plan, version)

    def _planned(
        self,
        folder: ModelFolder,
        snapshot: Snapshot,
        version: int,
        config: Proto | None,
        source: Source,
    ) -> Planned:
        resolved = resolve(
            config,
            folder.name,
            source,
            files=folder.filenames(version),
            backends=tuple(self._backends),
            gpus=self._gpus(),
        )
        # Which versions are served is no part of how one of them answers.
        unversioned = deepcopy(resolved)
        unversioned.ClearField("version_policy")
        made_of = (
            folder.place,
            unversioned.SerializeToString(deterministic=True),
            snapshot.shared,
            snapshot.versions[version],
        )
        return Planned(resolved, made_of)

    def _open_version(self, plan: Plan, version: int) -> Opened:
        folder, resolved = plan.folder, plan.versions[version].config
        if is_ensemble(resolved):
            return _open_ensemble(plan, version)
        begin = time.monotonic_ns()
        passport, warnings = check_passport(folder, version, self._passports)
        for warning in warnings:
            logger.warning("%s", folder.told(warning))
        path = folder.version_path(version)
        own = within(resolved, self._gpus())
        opening = Opening(partial(self._backends[resolved.backend].open, own, path), own)
        sessions = [opening.first(self._builds_aside and folder.lasts)]
        try:
            config = complete(resolved, sessions[0].signature, plan.source, self._completion)
            sessions.extend(opening.others())
            labels, tokenizer = _labels(folder, config), folder.tokenizer(version)
            states = read_initial_states(config, folder)
            # Of equal sessions, the times of any will do.
            times = [warm_up(session, config, folder) for session in sessions][-1]
            sessions, acceleration = opening.accelerated(sessions, config, folder, version)
        except BaseException:
            close(sessions)
            raise
        return Opened(
            config,
            str(version),
            [sessions[index] for index in instance_sessions(own)],
            labels,
            passport,
            states,
            times,
            time.monotonic_ns() - begin,
            tokenizer,
            acceleration,
        )


def _open_ensemble(plan: Plan, version: int) -> Opened:
    """An ensemble has no sessions: whether its models fit is seen where they are known.

    It has no passport either: there is nothing to prove of it that its models' do not prove.
    """
    config = complete_ensemble(plan.versions[version].config, plan.source)
    return Opened(config, str(version), (), _labels(plan.folder, config))


def served_versions(folder: ModelFolder, parsed: Proto | None) -> list[int]:
    """The versions that the policy of a configuration serves; NoVersion if there is none."""
    versions = choose(parsed, folder.versions)
    if not versions:
        is_inside = is_version(folder.name) and not folder.versions
        raise NoVersion(
            f"{folder.place}: no version to serve: the folder has "
            f"{', '.join(map(str, folder.versions)) or 'none'}; versions are folders named 1, "
            "2, … which the version policy of config.pbtxt chooses from"
            + ("; is the repository rather the folder that the model lies in?" if is_inside else "")
        )
    return versions


def _labels(folder: ModelFolder, config: ModelConfig) -> dict[str, tuple[str, ...]]:
    return {output: folder.labels(name) for output, name in config.label_filenames.items()}


def close(sessions: Sequence[Session]) -> None:
    """Release every one of `sessions`."""
    for session in sessions:
        session.close()
