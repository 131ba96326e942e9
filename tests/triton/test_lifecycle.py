"""The same loads and unloads on a real Triton and on ours: the same states, statuses and words.

Compared is what both say; ours goes on after a colon, with the reason that Triton leaves to its
log.
"""

import re
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import numpy as np
import pytest
import tritonclient.grpc
import tritonclient.http
from tritonclient.utils import InferenceServerException

from tests import adders
from tests.e2e.clients import tensor
from tests.e2e.server import penstock_server
from tests.triton.server import triton_server

EXPLICIT: Final = "--model-control-mode=explicit"
MODULES: Final = {"http": tritonclient.http, "grpc": tritonclient.grpc}
# Between two looks: whoever asks without a pause keeps a processor from what is awaited.
PAUSE: Final = 0.05

# Behind these words, each server says the rest in its own.
_OWN_WORDS: Final = re.compile(
    r"(is at UNAVAILABLE state:|failed to poll from model repository|under the version policy of "
    r"model '\w+')[\s\S]*"
)
Line = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Refusal:
    """A status of the protocol, and the words that both servers have."""

    status: str
    message: str


@dataclass(frozen=True, slots=True)
class Subject:
    """One of the servers, asked over one protocol, and the repository that it serves."""

    module: ModuleType
    client: Any
    repository: Path

    def load(
        self, model: str, config: str | None = None, files: dict[str, bytes] | None = None
    ) -> Refusal | None:
        named = {f"file:{path}": content for path, content in (files or {}).items()}
        return self._outcome("load_model", model, config=config, files=named or None)

    def unload(self, model: str, with_parts: bool = False) -> Refusal | None:
        return self._outcome("unload_model", model, unload_dependents=with_parts)

    def states(self, *models: str) -> list[Line]:
        """The index of these models, once nothing of them is being unloaded."""
        lines = self._index(models)
        while any("UNLOADING" in line for line in lines):
            time.sleep(PAUSE)
            lines = self._index(models)
        return lines

    def ask(self, model: str, version: str = "") -> tuple[str, float] | Refusal:
        x = [tensor(self.module, "x", np.zeros((1, 1), np.float32))]
        try:
            result = self.client.infer(model, x, model_version=version)
        except InferenceServerException as error:
            return _refusal(error)
        said = result.get_response()
        answered = said["model_version"] if isinstance(said, dict) else said.model_version
        return answered, float(result.as_numpy("y")[0, 0])

    def _outcome(self, method: str, *args: Any, **options: Any) -> Refusal | None:
        try:
            getattr(self.client, method)(*args, **options)
        except InferenceServerException as error:
            return _refusal(error)
        return None

    def _index(self, models: tuple[str, ...]) -> list[Line]:
        options = {"as_json": True} if self.module is tritonclient.grpc else {}
        found = self.client.get_model_repository_index(**options)
        entries = found.get("models", []) if isinstance(found, dict) else found
        return [_line(entry) for entry in entries if entry["name"] in models]


def _refusal(error: InferenceServerException) -> Refusal:
    return Refusal(str(error.status()), _OWN_WORDS.sub(r"\1", str(error.message())))


def _line(entry: dict[str, str]) -> Line:
    reason = entry.get("reason", "")
    told = reason if reason in ("", "unloaded") else "failed"
    return tuple(filter(None, (entry["name"], entry.get("version"), entry.get("state"), told)))


def plain(server: Subject, model: str) -> Iterator[Any]:
    adders.add(server.repository, model, 1, 2, 3)
    yield server.states(model)
    yield server.ask(model)
    yield server.load(model)
    yield server.states(model)
    yield server.ask(model), server.ask(model, "1"), server.ask(model, "9")
    yield server.unload(model)
    yield server.ask(model), server.ask(model, "3")
    yield server.states(model)
    yield server.load(model)
    yield server.states(model)


def versions(server: Subject, model: str) -> Iterator[Any]:
    folder = adders.add(server.repository, model, 1)
    yield server.load(model)
    adders.publish(folder, 2, 2)
    yield server.load(model)
    yield server.states(model), server.ask(model), server.ask(model, "1")
    adders.configure(folder, "version_policy { all {} }")
    yield server.load(model)
    yield server.states(model), server.ask(model), server.ask(model, "1")
    adders.remove(folder, 2)
    yield server.load(model)
    yield server.states(model), server.ask(model), server.ask(model, "2")


def failures(server: Subject, model: str) -> Iterator[Any]:
    yield server.load("nobody"), server.unload("nobody")
    folder = adders.add(server.repository, model, 1, config="version_policy { all {} }")
    adders.put(folder, 2, adders.BROKEN)
    yield server.load(model)
    yield server.states(model), server.ask(model), server.ask(model, "1")
    yield server.unload(model)
    yield server.states(model)
    adders.publish(folder, 2, 2)
    yield server.load(model)
    yield server.states(model)
    adders.put(folder, 3, adders.BROKEN)
    yield server.load(model)
    yield server.states(model), server.ask(model), server.ask(model, "3")
    (folder / "config.pbtxt").write_text("nonsense: 1")
    yield server.load(model)
    yield server.ask(model)
    adders.configure(folder, "version_policy { specific { versions: [ 9 ] } }")
    yield server.load(model)
    yield server.ask(model)


def given(server: Subject, model: str) -> Iterator[Any]:
    folder = adders.add(server.repository, model, 1, 2)
    yield server.load(model, adders.config_json(version_policy={"all": {}}))
    yield server.states(model)
    yield server.load(model)
    yield server.states(model)
    yield server.unload(model)
    yield server.load(model)
    yield server.states(model)
    yield server.load(model, adders.config_json(version_policy={"all": {}}))
    (folder / "config.pbtxt").touch()
    yield server.load(model)
    yield server.states(model)


def unfit(server: Subject, model: str) -> Iterator[Any]:
    adders.add(server.repository, model, 1)
    for config in ("", "nope", "[]", "{", adders.config_json(name="other")):
        yield server.load(model, config)
    yield server.load(model, adders.config_json(max_batch_size=-1))
    yield server.load(model, None, {"1/model.onnx": adders.graph(1)})
    yield server.states(model)


def files(server: Subject, model: str) -> Iterator[Any]:
    adders.add(server.repository, model, 1)
    yield server.load(model)
    yield server.load(model, adders.config_json(), {"5/model.onnx": adders.graph(50)})
    yield server.states(model), server.ask(model)
    yield server.load(model)
    yield server.states(model), server.ask(model)
    yield server.load("own", adders.config_json(), {"1/model.onnx": adders.graph(7)})
    yield server.ask("own")
    yield server.unload("own")
    yield server.load("own")


def parts(server: Subject, model: str) -> Iterator[Any]:
    names = [f"{model}_{number}" for number in range(5)]
    for part in names[:3]:
        adders.add(server.repository, part, 1)
    adders.chain(server.repository, names[3], *names[:2])
    adders.chain(server.repository, names[4], names[3], names[2])
    yield server.load(names[4])
    yield server.states(*names), server.ask(names[4])
    yield server.unload(names[0])
    yield server.states(*names), server.ask(names[4])
    yield server.load(names[0])
    yield server.states(*names), server.ask(names[4])
    yield server.unload(names[4], with_parts=True)
    yield server.states(*names)
    yield server.load(names[4])
    yield server.unload(names[3], with_parts=True)
    yield server.states(*names)


# Over gRPC what is said and how; what happens is the same engine's.
SCRIPTS: Final = (
    *((script, "http") for script in (plain, versions, failures, given, unfit, files, parts)),
    (plain, "grpc"),
    (failures, "grpc"),
    (unfit, "grpc"),
)


def play(server: Any, repository: Path, script: Any, protocol: str) -> list[Any]:
    """What the script saw; its models are its own, so that several can be played at a time."""
    module = MODULES[protocol]
    with module.InferenceServerClient(getattr(server, protocol)) as client:
        subject = Subject(module, client, repository)
        return list(script(subject, f"{script.__name__}_{protocol}"))


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[Any, list[Future[list[Any]]]]]:
    """What ours and a real Triton made of each script, all played side by side."""
    folders = [tmp_path_factory.mktemp(name) for name in ("penstock", "triton")]
    with (
        penstock_server(
            EXPLICIT, "--triton-status-codes", "--passport-policy=off", repository=folders[0]
        ) as ours,
        triton_server(folders[1], EXPLICIT) as theirs,
        ThreadPoolExecutor(len(SCRIPTS)) as pool,
        # Loads that come over several connections at a time make Triton's HTTP hang now and then.
        ThreadPoolExecutor(1) as http,
        ThreadPoolExecutor(1) as grpc,
    ):
        alone = {"http": http, "grpc": grpc}
        yield {
            (script, protocol): [
                pool.submit(play, ours, folders[0], script, protocol),
                alone[protocol].submit(play, theirs, folders[1], script, protocol),
            ]
            for script, protocol in SCRIPTS
        }


@pytest.mark.parametrize(
    "key", SCRIPTS, ids=[f"{script.__name__}-{protocol}" for script, protocol in SCRIPTS]
)
def test_both_servers_do_and_say_the_same(
    seen: dict[Any, list[Future[list[Any]]]], key: Any
) -> None:
    ours, theirs = seen[key]
    assert ours.result() == theirs.result()
    assert len(ours.result()) > 5
