"""The state of a training run that is not finished, in one file beside the checkpoint to come.

It is written after each epoch and holds all that the rest depends on: weights, the state of the
optimiser and of the random generators, from which the order of the data is drawn, the epochs that
were, and the best weights where they count. The schedule follows from the epochs. A run that goes
on from it ends with the very weights of one that was never interrupted.

The file is a safetensors one whose metadata hold the record as JSON; nothing is ever unpickled.
"""

import hashlib
import json
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as save_tensors
from torch import Tensor, nn
from torch.optim import Optimizer

from training import durable, locks, provenance, record
from training.checkpoint import DatasetRef
from training.config import TrainConfig
from training.curve import Epoch
from training.errors import StateError, UnfitStateError

SCHEMA = "penstock.training-state/1"
SUFFIX = ".unfinished.safetensors"
CURE = "--restart begins anew"

Tensors = dict[str, Tensor]


@dataclass(frozen=True, slots=True)
class Identity:
    """What a run is: two runs of one identity give the same weights."""

    recipe: str
    architecture: str
    architecture_config: dict[str, bool | int | float | str]
    config: TrainConfig
    dataset: DatasetRef
    code_sha256: str = field(default_factory=lambda: provenance.code_sha256("training"))
    versions: dict[str, str] = field(default_factory=provenance.versions)


@dataclass(slots=True)
class Progress:
    """Everything of a run that changes on its way."""

    model: nn.Module
    optimizer: Optimizer
    history: list[Epoch] = field(default_factory=list)
    best: Tensors = field(default_factory=dict)  # the weights of the best epoch, where they count
    earlier: float = 0.0  # seconds spent before the run was interrupted
    _started: float = field(default_factory=time.monotonic)

    @property
    def seconds(self) -> float:
        return self.earlier + time.monotonic() - self._started


@dataclass(frozen=True, slots=True)
class _Record:
    identity: Identity
    history: tuple[Epoch, ...]
    seconds: float


def path_for(output: Path) -> Path:
    """Where the state of a run lies whose checkpoint is to be `output`."""
    output = output.resolve()
    return output.with_name(output.name + SUFFIX)


@contextmanager
def held(path: Path) -> Iterator[None]:
    """For the block, this process alone trains what is kept in `path`, for as long as it lives.

    Raises StateError while another one does."""
    with ExitStack() as stack:
        try:
            stack.enter_context(locks.held(path))
        except BlockingIOError as error:
            output = path.with_name(path.name.removesuffix(SUFFIX))
            raise StateError(
                f"{output}: another process trains into it; wait for its end, or choose another "
                "folder with --output"
            ) from error
        except OSError as error:
            raise StateError(f"{path}: cannot be locked ({error.strerror})") from error
        yield


def remove(path: Path) -> None:
    for file in (path, durable.draft(path)):
        file.unlink(missing_ok=True)


def save(path: Path, identity: Identity, progress: Progress) -> None:
    """Replaces the state that was there, in one step. Raises StateError if it cannot be written."""
    written = _Record(identity, tuple(progress.history), progress.seconds)
    text = json.dumps(record.to_json(written))
    tensors = _tensors(progress)
    metadata = {"schema": SCHEMA, "record": text, "sha256": _digest(text, tensors)}
    try:
        with durable.replacing(path) as draft:
            durable.write(draft, save_tensors(tensors, metadata))
    except OSError as error:
        raise StateError(f"{path}: cannot be written ({error.strerror})") from error


def restore(path: Path, identity: Identity, progress: Progress) -> bool:
    """Brings `progress` to where the run was left; False where there is no such file.

    Raises UnfitStateError for a file that is corrupt, or of another run."""
    if not path.exists():
        return False
    known, tensors = _read(path)
    if differences := _differences(known.identity, identity):
        raise UnfitStateError(
            f"{path}: the state of another run: {'; '.join(differences)}. "
            f"Run as it was run to go on; {CURE}"
        )
    try:
        _apply(tensors, progress)
    except (KeyError, RuntimeError, ValueError) as error:
        raise UnfitStateError(f"{path}: does not fit this run ({error}); {CURE}") from error
    progress.history[:] = known.history
    progress.earlier = known.seconds
    return True


def _read(path: Path) -> tuple[_Record, Tensors]:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors: Tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise UnfitStateError(f"{path}: cannot be read ({error}); {CURE}") from error
    if metadata.get("schema") != SCHEMA:
        raise UnfitStateError(f"{path}: not the state of a training run ({SCHEMA}); {CURE}")
    text = metadata.get("record", "")
    if _digest(text, tensors) != metadata.get("sha256"):
        raise UnfitStateError(f"{path}: corrupt, its SHA-256 is another than it says; {CURE}")
    try:
        return record.from_json(_Record, json.loads(text)), tensors
    except ValueError as error:
        raise UnfitStateError(f"{path}: {error}; {CURE}") from error


def _tensors(progress: Progress) -> Tensors:
    tensors = {"random/cpu": torch.get_rng_state()}
    if next(progress.model.parameters()).is_cuda:
        tensors["random/cuda"] = torch.cuda.get_rng_state()
    tensors |= {f"model/{name}": each for name, each in progress.model.state_dict().items()}
    tensors |= {f"best/{name}": each for name, each in progress.best.items()}
    for index, parameter in enumerate(_parameters(progress.optimizer)):
        for name, value in progress.optimizer.state[parameter].items():
            tensors[f"optimizer/{index}/{name}"] = value
    return {name: each.detach().cpu().contiguous() for name, each in tensors.items()}


def _apply(tensors: Tensors, progress: Progress) -> None:
    progress.model.load_state_dict(_under("model", tensors))
    progress.best = _under("best", tensors)
    for index, parameter in enumerate(_parameters(progress.optimizer)):
        progress.optimizer.state[parameter] = {
            name: _like(value, parameter)
            for name, value in _under(f"optimizer/{index}", tensors).items()
        }
    torch.set_rng_state(tensors["random/cpu"])
    if "random/cuda" in tensors:
        torch.cuda.set_rng_state(tensors["random/cuda"])


def _like(value: Tensor, parameter: nn.Parameter) -> Tensor:
    """In the parameter's place and memory format, as the optimiser made it: in another one its
    arithmetic may round otherwise. What counts steps is a number, and stays on the CPU."""
    if value.shape != parameter.shape:
        return value
    return torch.empty_like(parameter, requires_grad=False).copy_(value)


def _parameters(optimizer: Optimizer) -> list[nn.Parameter]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def _under(prefix: str, tensors: Tensors) -> Tensors:
    start = f"{prefix}/"
    return {name[len(start) :]: each for name, each in tensors.items() if name.startswith(start)}


def _digest(text: str, tensors: Tensors) -> str:
    return hashlib.sha256(text.encode() + save_tensors(tensors)).hexdigest()


def _differences(theirs: Identity, ours: Identity) -> list[str]:
    """What tells two runs apart, in words: `config.lr is 0.1 there and 0.05 here`."""
    there, here = _flat(asdict(theirs)), _flat(asdict(ours))
    return [
        f"{name} is {there.get(name)!s:.20} there and {here.get(name)!s:.20} here"
        for name in sorted(there | here)
        if there.get(name) != here.get(name)
    ]


def _flat(table: dict[str, object], prefix: str = "") -> dict[str, object]:
    flat: dict[str, object] = {}
    for name, value in table.items():
        inner = (
            _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
        )
        flat |= inner
    return flat
