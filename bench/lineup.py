"""Who is compared, and how they are started: each on the servers' core, all given the same."""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

from bench import cases, machine, models
from bench.contestants import RAW, Contestant, Server, raw
from bench.peers import ours, plain, triton
from bench.peers.base import ROOT, Peer

OURS: Final = "ours"
BASE: Final = "base"
# What a request costs over many connections is held against what it costs over few.
FEW_CONNECTIONS: Final = 32
MANY_CONNECTIONS: Final = 256
FEW: Final = f"ours, {FEW_CONNECTIONS} connections"
MANY: Final = "ours, 100 models"
MAPPED: Final = "ours, mapped memory"
COMMITTED: Final = "ours, committed models"
# If one of these ends while it is measured, that is an error, where others are left out.
PENSTOCK: Final = frozenset({OURS, BASE, FEW, MANY, MAPPED})
FASTAPI: Final = "fastapi"
TRITON: Final = "triton"

_OIP: Final = (*cases.SMALL, *cases.LARGE)
_PLAIN: Final = (cases.BINARY, cases.JSON)
_MLSERVER: Final = (cases.JSON, cases.GRPC)
PEERS: Final = {
    peer.name: peer
    for peer in (
        Peer(OURS, "Penstock", ours.serve_sharing, cases.oip_request, (*_OIP, cases.MODELS)),
        Peer(MANY, "Penstock", ours.serve_many, cases.oip_request, (cases.MODELS,)),
        Peer(MAPPED, "Penstock", ours.serve_mapping, cases.oip_request, (cases.LARGE_SHARED,)),
        Peer(FASTAPI, "FastAPI + pydantic", plain.serve_fastapi, cases.plain_request, _PLAIN),
        Peer("litserve", "LitServe", plain.serve_litserve, cases.plain_request, _PLAIN),
        Peer("bentoml", "BentoML", plain.serve_bentoml, cases.rows_request, _PLAIN),
        Peer("mlserver", "MLServer", plain.serve_mlserver, cases.oip_request, _MLSERVER),
        Peer(TRITON, "Triton, Python backend", triton.serve, cases.oip_request, _OIP),
    )
}
# Penstock otherwise, beside itself wherever a kind that only it is for is measured.
OTHERWISE: Final = {cases.MODELS: MANY, cases.LARGE_SHARED: MAPPED}
# Who stands beside ours unless the command line says otherwise.
OTHERS: Final = (*(name for name in PEERS if name not in {OURS, *OTHERWISE.values()}), RAW)
PICTURE: Final = ROOT / "docs" / "seven.png"


@dataclass(frozen=True, slots=True)
class Bench:
    """What all contestants are given: a repository, what is asked by kind, and the cores."""

    repository: Path
    subjects: Mapping[str, models.Subject]
    cores: machine.Cores
    peers: Mapping[str, Peer] = field(default_factory=lambda: PEERS)


@dataclass(frozen=True, slots=True)
class Absent:
    """A contestant that cannot run here, and why."""

    name: str
    reason: str


def base(checkout: Path) -> Peer:
    """Penstock as it is in another checkout, to tell what a change brought."""
    serve = partial(ours.serve_sharing, checkout=checkout)
    return Peer(BASE, "Penstock before", serve, cases.oip_request, (*_OIP, cases.MODELS))


def prepare(published: Path, repository: Path) -> Bench:
    """Fill a new repository with a published classifier's FP32 model and one for large tensors."""
    small, large = models.mnist(published, PICTURE, repository), models.cifar(repository)
    subjects = dict.fromkeys((*cases.SMALL, cases.MODELS), small)
    return Bench(repository, subjects | dict.fromkeys(cases.LARGE, large), machine.cores())


def committed(repository: Path, model: str, cores: machine.Cores) -> Bench:
    """Penstock alone, with the repository that a classifier was published in, asked for that one.

    Its server is waited for until that model is ready; others may still be loading.
    """
    serve = partial(ours.serve, ready=f"/v2/models/{model}/ready")
    peer = Peer(COMMITTED, "Penstock", serve, cases.oip_request, (cases.BINARY,))
    subjects = {cases.BINARY: models.published(repository, model, PICTURE)}
    return Bench(repository, subjects, cores, {COMMITTED: peer})


def start(bench: Bench, names: Iterable[str], stack: ExitStack) -> Iterator[Contestant | Absent]:
    """Start each of them, to run until the stack is closed."""
    for name in names:
        try:
            started: Contestant | Absent = start_one(bench, name, stack)
        except machine.Unavailable as reason:
            started = Absent(name, str(reason))
        yield started


def start_one(bench: Bench, name: str, stack: ExitStack) -> Contestant:
    """Start one; Unavailable says why it cannot run."""
    with machine.pinned(bench.cores.server):
        if name == RAW:
            return stack.enter_context(raw(bench.subjects, bench.cores.server))
        peer = bench.peers[name]
        running = stack.enter_context(peer.serve(bench.repository))
    return Server(peer, running, bench.subjects, bench.cores)
