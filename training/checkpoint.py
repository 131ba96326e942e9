"""A checkpoint: a folder that says all about one trained model, and rebuilds it.

<folder>/checkpoint.json      everything but the weights
         weights.safetensors  the weights; nothing is ever unpickled
         learning-curve.png   the history as a picture
         tokenizer.json       of texts: what makes numbers of them
"""

import hashlib
import json
import os
import shutil
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from training import durable, record
from training.catalog import build_model
from training.config import TrainConfig
from training.curve import Epoch, draw
from training.errors import CheckpointError, ConfigError
from training.spec import Normalisation, Signature

if TYPE_CHECKING:
    from torch import nn

SCHEMA = "penstock.checkpoint/1"
RECORD, WEIGHTS, CURVE = "checkpoint.json", "weights.safetensors", "learning-curve.png"
TOKENIZER = "tokenizer.json"
FILES = {RECORD, WEIGHTS, CURVE, TOKENIZER}


@dataclass(frozen=True, slots=True)
class DatasetRef:
    name: str
    sha256: str


@dataclass(frozen=True, slots=True)
class Checkpoint:
    recipe: str
    architecture: str
    architecture_config: dict[str, bool | int | float | str]
    config: TrainConfig
    signature: Signature
    labels: tuple[str, ...]
    normalisation: Normalisation
    metrics: dict[str, int | float]
    history: tuple[Epoch, ...]
    dataset: DatasetRef
    commit: str | None
    versions: dict[str, str]
    created: str  # ISO 8601, UTC
    task: str = "classification"  # see training.tasks
    columns: tuple[str, ...] = ()  # names along the last dimension of the input
    part: str = ""  # of the network, such as its decoder; the whole without
    weights_sha256: str = ""  # filled in by `save`
    tokenizer_sha256: str = ""  # likewise; empty where there is none
    # Not part of the file: the text of TOKENIZER, and where the checkpoint lies, filled in by
    # `save` and `load`.
    tokenizer: str = ""
    folder: str = ""

    @property
    def seed(self) -> int:
        return self.config.seed

    @property
    def dataset_name(self) -> str:
        return self.dataset.name

    @property
    def dataset_sha256(self) -> str:
        return self.dataset.sha256

    def build(self) -> "nn.Module":
        """The trained network in eval mode: normalised FP32 input to logits. Raises
        CheckpointError if the weights are not those that were saved."""
        from safetensors import SafetensorError
        from safetensors.torch import load as load_tensors

        path = Path(self.folder, WEIGHTS)
        try:
            data = path.read_bytes()
        except OSError as error:
            raise CheckpointError(f"{path}: cannot be read ({error.strerror})") from error
        if (digest := hashlib.sha256(data).hexdigest()) != self.weights_sha256:
            raise CheckpointError(
                f"{path}: corrupt, or of another checkpoint: its SHA-256 is {digest}, "
                f"but {RECORD} says {self.weights_sha256}"
            )
        try:
            model = build_model(self.architecture, self.architecture_config)
            model.load_state_dict(load_tensors(data))
            # AttributeError: the network has no such part.
            return (model.get_submodule(self.part) if self.part else model).eval()
        except (ConfigError, SafetensorError, RuntimeError, AttributeError) as error:
            raise CheckpointError(
                f"{path}: does not fit the architecture that {RECORD} names: {error}"
            ) from error


def save(path: Path, checkpoint: Checkpoint, model: "nn.Module") -> Checkpoint:
    """Writes all or nothing: a checkpoint that was there before stays whole until the new one is
    on the disk. Returns what `load` would."""
    from safetensors.torch import save as save_tensors

    path = path.resolve()
    check_writable(path)
    draft = durable.draft(path)
    weights = save_tensors(
        {name: tensor.cpu().contiguous() for name, tensor in model.state_dict().items()}
    )
    saved = replace(
        checkpoint,
        weights_sha256=hashlib.sha256(weights).hexdigest(),
        tokenizer_sha256=_text_sha256(checkpoint.tokenizer),
        folder=str(path),
    )
    shutil.rmtree(draft, ignore_errors=True)  # of who was killed
    try:
        draft.mkdir(parents=True)
        durable.write(draft / WEIGHTS, weights)
        durable.write(draft / CURVE, draw(saved.recipe, saved.history))
        durable.write(draft / RECORD, _encode(saved).encode())
        if saved.tokenizer:
            durable.write(draft / TOKENIZER, saved.tokenizer.encode())
        durable.sync(draft)
        _replace(path, draft)
        durable.sync(path.parent)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be written ({error.strerror})") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return saved


def load(path: Path) -> Checkpoint:
    path = path.resolve()
    file = path / RECORD
    try:
        document = json.loads(file.read_bytes())
    except OSError as error:
        raise CheckpointError(
            f"{path}: no checkpoint here ({RECORD}: {error.strerror}). "
            "A checkpoint is the folder that `penstock train` writes."
        ) from error
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{file}: not valid JSON ({error})") from error
    checkpoint = _decode(document, file)
    return replace(checkpoint, tokenizer=_read_tokenizer(checkpoint))


def check_writable(path: Path) -> None:
    """Raises CheckpointError unless `save` may create or replace this folder. What it replaces
    must be a checkpoint: a mistyped path must not cost anybody their files."""
    try:
        _check_writable(path)
    except OSError as error:  # a folder that cannot be listed, a name that is too long
        raise CheckpointError(
            f"{path}: cannot be looked at ({error.strerror}). Choose another --output."
        ) from error


def _check_writable(path: Path) -> None:
    if path.is_dir():
        if foreign := sorted({entry.name for entry in path.iterdir()} - FILES):
            raise CheckpointError(
                f"{path}: will not be replaced, since it holds {foreign[0]}, which is not part of "
                "a checkpoint. Choose another folder with --output."
            )
    elif path.exists():
        raise CheckpointError(f"{path}: is a file; a checkpoint is a folder")
    place = next(filter(Path.exists, path.absolute().parents))
    if not (place.is_dir() and os.access(place, os.W_OK | os.X_OK)):
        raise CheckpointError(f"{path}: {place} cannot be written into. Choose another --output.")


def _encode(checkpoint: Checkpoint) -> str:
    document = {"schema": SCHEMA} | record.to_json(checkpoint)
    del document["folder"], document["tokenizer"]
    return json.dumps(document, indent=2, allow_nan=False) + "\n"


def _decode(document: object, file: Path) -> Checkpoint:
    if not isinstance(document, dict) or "schema" not in document:
        raise CheckpointError(f"{file}: not a checkpoint: it has no field schema ({SCHEMA})")
    table = {**document, "folder": str(file.parent)}
    if (schema := table.pop("schema")) != SCHEMA:
        raise CheckpointError(
            f"{file}: its schema is {schema!r}, but this version of Penstock reads {SCHEMA}"
        )
    try:
        return record.from_json(Checkpoint, table)
    except (ValueError, ConfigError) as error:
        raise CheckpointError(f"{file}: {error}") from error


def _read_tokenizer(checkpoint: Checkpoint) -> str:
    """CheckpointError if it is not the one that was saved."""
    if not checkpoint.tokenizer_sha256:
        return ""
    path = Path(checkpoint.folder, TOKENIZER)
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{path}: cannot be read ({error})") from error
    if (digest := _text_sha256(text)) != checkpoint.tokenizer_sha256:
        raise CheckpointError(
            f"{path}: corrupt, or of another checkpoint: its SHA-256 is {digest}, "
            f"but {RECORD} says {checkpoint.tokenizer_sha256}"
        )
    return text


def _text_sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest() if text else ""


def _replace(path: Path, draft: Path) -> None:
    """A folder cannot be renamed over another one, so the old one steps aside for a moment."""
    old = path.with_name(f".{path.name}.old")
    try:
        if path.exists():
            shutil.rmtree(old, ignore_errors=True)  # of who was killed
            path.rename(old)
        draft.rename(path)
    except BaseException:
        if old.exists() and not path.exists():
            old.rename(path)
        raise
    shutil.rmtree(old, ignore_errors=True)
