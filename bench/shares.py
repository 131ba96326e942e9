"""How many rows a second a model gives by each way to it, from the runtime alone to a client."""

import asyncio
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Protocol

import numpy as np
from tritonclient.grpc import model_config_pb2

from bench.machine import Unavailable
from bench.peers import ours
from bench.peers.base import ROOT, Running
from serving.config import Placement, parse, to_text
from serving.devices import Device, Wish
from serving.dtypes import Datatype, from_config
from serving.engine.backends.ort_providers import on_gpu
from serving.engine.backends.runtime import CPU, load_runtime
from serving.engine.embedded import EmbeddedEngine
from serving.engine_settings import AcceleratorBuild
from serving.settings import PassportPolicy, Settings
from serving.threads import processors
from serving.types import Array, InferenceRequest, Tensor

RAW: Final = "raw"
WAYS: Final = (RAW, "engine", "REST", "gRPC")
_TOKENS: Final = 100  # numbers below are in every vocabulary


@dataclass(frozen=True, slots=True)
class Load:
    """So many rows a request, for so many seconds, by so many clients that ask at a time."""

    rows: int
    seconds: float
    clients: int


@dataclass(frozen=True, slots=True)
class Subject:
    """A model in a repository of its own, and one row of each of its inputs."""

    model: str
    repository: Path
    sample: Mapping[str, Array]

    def inputs(self, rows: int) -> dict[str, Array]:
        """A batch of that row."""
        return {name: np.repeat(row[None], rows, axis=0) for name, row in self.sample.items()}

    @property
    def version(self) -> Path:
        """The folder of the one version."""
        return self.repository / self.model / "1"


class Way(Protocol):
    """A way to the model; `rate` is how many rows a second come back by it."""

    name: str

    def rate(self, load: Load) -> float:
        """Rows a second under this load."""


def prepared(model: str, source: Path, repository: Path, most: int, tokens: int) -> Subject:
    """The model's latest version as version 1 of `repository`, for batches of up to `most` rows.

    It is not batched, so that every run is of as many rows as a request. Variable dimensions are
    `tokens` long, as of texts. Unavailable where `source` has no such model.
    """
    numbers = [folder.name for folder in (source / model).glob("*") if folder.name.isdecimal()]
    if not numbers:
        raise Unavailable(f"{source} has no model '{model}'")
    shutil.copytree(source / model / max(numbers, key=int), repository / model / "1")
    for file in (source / model).glob("*.txt"):
        shutil.copy(file, repository / model)
    config = parse((source / model / "config.pbtxt").read_text(), "config.pbtxt")
    config.max_batch_size = most
    config.ClearField("dynamic_batching")
    (repository / model / "config.pbtxt").write_text(to_text(config))
    sample = {each.name: _row(each, tokens) for each in config.input}
    return Subject(model, repository, sample)


def _row(given: Any, tokens: int) -> Array:
    """One row of an input: of masks ones, of whole numbers such as are in every vocabulary."""
    datatype = from_config(model_config_pb2.DataType.Name(given.data_type))
    assert datatype is not None
    shape = [tokens if dim < 0 else dim for dim in given.dims]
    if given.name.endswith("mask"):
        return np.ones(shape, datatype.numpy)
    random = np.random.default_rng(0)
    if datatype.is_float:
        return random.random(shape).astype(datatype.numpy)
    return random.integers(1, 256 if datatype is Datatype.UINT8 else _TOKENS, shape).astype(
        datatype.numpy
    )


class Raw:
    """ONNX Runtime alone: one session, one thread that runs it, arrays in and out."""

    name = RAW

    def __init__(self, subject: Subject, place: Placement) -> None:
        runtime = load_runtime()
        options = runtime.SessionOptions()
        options.intra_op_num_threads = processors().for_models
        self._subject = subject
        self._session = runtime.InferenceSession(
            str(subject.version / "model.onnx"),
            options,
            providers=[CPU] if place.gpu is None else on_gpu(place),
            enable_fallback=0,
        )

    def rate(self, load: Load) -> float:
        inputs = self._subject.inputs(load.rows)
        self._session.run(None, inputs)
        runs, began = 0, time.perf_counter()
        while (spent := time.perf_counter() - began) < load.seconds:
            self._session.run(None, inputs)
            runs += 1
        return runs * load.rows / spent


class InProcess:
    """The engine, asked in its own process: everything but the network and the parsing."""

    name = "engine"

    def __init__(self, subject: Subject, device: Wish) -> None:
        settings = Settings(
            model_repository=(subject.repository,),
            device=device,
            accelerator_build=AcceleratorBuild.LOAD,
            passport_policy=PassportPolicy.OFF,
        )
        self._subject = subject
        self._engine = EmbeddedEngine(settings)
        self._runner = asyncio.Runner()
        self._runner.run(self._engine.start())

    def rate(self, load: Load) -> float:
        return self._runner.run(self._rate(load))

    def close(self) -> None:
        """End the engine."""
        self._runner.run(self._engine.close())
        self._runner.close()

    async def _rate(self, load: Load) -> float:
        request = self._request(load.rows)
        await self._engine.infer(request)
        began = time.perf_counter()
        clients = (self._ask(request, began + load.seconds) for _ in range(load.clients))
        answered = sum(await asyncio.gather(*clients))
        return answered * load.rows / (time.perf_counter() - began)

    async def _ask(self, request: InferenceRequest, end: float) -> int:
        answered = 0
        while time.perf_counter() < end:
            await self._engine.infer(request)
            answered += 1
        return answered

    def _request(self, rows: int) -> InferenceRequest:
        inputs = (
            Tensor(name, _datatype(array), array)
            for name, array in self._subject.inputs(rows).items()
        )
        return InferenceRequest(self._subject.model, tuple(inputs))


class OverNetwork:
    """A server in another process, asked by `penstock bench` over REST (binary) or gRPC."""

    def __init__(self, subject: Subject, name: str, url: str) -> None:
        self.name = name
        self._subject = subject
        self._url = url

    def rate(self, load: Load) -> float:
        folder = self._subject.repository.parent
        data, result = folder / f"{self._subject.model}-{load.rows}.npz", folder / "result.json"
        arrays: dict[str, Any] = {**self._subject.inputs(load.rows)}
        np.savez(data, **arrays)
        command = [sys.executable, "-m", "penstock", "bench", self._url, self._subject.model]
        command += [f"--batch-size={load.rows}", f"--concurrency={load.clients}"]
        command += [f"--duration={load.seconds}s", "--warm-up=0.2s", f"--input-data={data}"]
        done = subprocess.run(
            [*command, f"--json={result}"], cwd=ROOT, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise Unavailable(f"penstock bench over {self.name} failed: {done.stdout}{done.stderr}")
        [step] = json.loads(result.read_text())["steps"]
        return float(step["rows_per_second"])


@contextmanager
def ways(subject: Subject, device: Wish, gpu: int | None) -> Iterator[list[Way]]:
    """All of them, on that GPU as CUDA counts or on the CPU; all end with the block."""
    # The same providers for all, or the shares would be those of TensorRT over CUDA.
    place = Placement(gpu, {}, {} if device.device is Device.TENSORRT else None)
    flags = (
        f"--device={device}",
        "--accelerator-build=load",
        "--passport-policy=off",
        "--http-max-input-size=1073741824",
    )
    with (
        ours.serve(subject.repository, *flags) as running,
        closing(InProcess(subject, device)) as engine,
    ):
        yield [Raw(subject, place), engine, *_networks(subject, running)]


def _networks(subject: Subject, running: Running) -> tuple[OverNetwork, OverNetwork]:
    return (
        OverNetwork(subject, "REST", f"http://{running.http}"),
        OverNetwork(subject, "gRPC", f"grpc://{running.grpc}"),
    )


def _datatype(array: Array) -> Datatype:
    return next(each for each in Datatype if each.numpy == array.dtype)
