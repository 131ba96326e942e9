"""The proof that travels with a model version: `passport.json`, written by export, read at load.

The schema is versioned by its `schema` field. A reader refuses a schema it does not know rather
than guess; fields may be added within a version, never renamed or given another meaning.
"""

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, Final, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

FILENAME: Final = "passport.json"
LABELS: Final = "labels.txt"  # of all versions, in the model's folder
SCHEMA: Final = "penstock.passport/1"

_CHECKPOINT: Final = (
    "weights_sha256", "architecture", "parameters", "recipe", "seed", "dataset"
)  # fmt: skip

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


# Of the data, drawn at random, or what data rarely holds.
SampleKind: TypeAlias = Literal["real", "random", "extreme"]


class PassportError(ValueError):
    """A passport that cannot be read; the message names the file and what was expected."""


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class DatasetProof(_Part):
    """The data behind the figures: `sha256` covers every file or array of the set."""

    name: str
    sha256: Sha256


class AccuracyProof(_Part):
    """Share of right answers (0 to 1) over `n` samples of `split`.

    `value` was measured with the exported file on ONNX Runtime, `checkpoint` with torch.
    """

    value: float = Field(ge=0, le=1)
    n: int = Field(gt=0)
    split: str = "test"
    checkpoint: float = Field(ge=0, le=1)


class ErrorProof(_Part):
    """The mean squared error over `n` samples of `split`, for models that are never just right.

    `value` and `checkpoint` as in AccuracyProof; in the terms of training: brightness from 0 to 1
    for pictures, deviations for series. Of the task `language` it is no square but the mean
    negative log-likelihood in nats per token, over `n` tokens; of the task `generation`, Fréchet's
    distance between the pixels of `n` generated pictures and of the test pictures.
    """

    value: float = Field(ge=0)
    n: int = Field(gt=0)
    split: str = "test"
    checkpoint: float = Field(ge=0)


class TranslationProof(_Part):
    """BLEU (0 to 100) of `n` texts of `split`, translated by `beams`; `greedy` is that of one beam.

    `signature` is sacrebleu's, which says how it was counted. `value` and `checkpoint` as in
    AccuracyProof.
    """

    value: float = Field(ge=0, le=100.001)
    greedy: float = Field(ge=0, le=100.001)
    beams: int = Field(gt=0)
    n: int = Field(gt=0)
    split: str = "test"
    signature: str
    checkpoint: float = Field(ge=0, le=100.001)


class LikenessProof(_Part):
    """How like the `n` test pictures as many generated ones are: Fréchet's distance between the
    `features` that the classifier `judge` sees in both, 0 for pictures like the real ones.

    `floor` is the same distance of `n` training pictures, `judge_sha256` that of its model file.
    """

    value: float = Field(ge=0)
    n: int = Field(gt=0)
    floor: float = Field(ge=0)
    features: int = Field(gt=0)
    judge: str
    judge_sha256: Sha256


# What is measured of a network of ours over its test set.
Measured: TypeAlias = AccuracyProof | ErrorProof | TranslationProof


class BatchParity(_Part):
    """Largest differences between torch and ONNX Runtime over all outputs at one batch size."""

    batch_size: int = Field(gt=0)
    samples: SampleKind
    max_absolute: float = Field(ge=0)
    max_relative: float = Field(ge=0)


class ParityProof(_Part):
    """The tolerances of the gate and what was measured; |a - b| <= atol + rtol * |b| everywhere."""

    absolute_tolerance: float = Field(gt=0)
    relative_tolerance: float = Field(ge=0)
    batches: tuple[BatchParity, ...] = Field(min_length=1)


class SourceProof(_Part):
    """What a version was made of that comes from outside, with no data to measure it on.

    `name` is that of an ONNX file, or `package.module:callable`; `sha256` is the ONNX file's, or
    that of the file with the module's weights, None where the callable brings its own.
    """

    kind: Literal["onnx", "module"]
    name: str
    sha256: Sha256 | None = None


class RowsProof(_Part):
    """Whether a row is answered beside others as it is alone, by the rule of ParityProof.

    Where not, `reason` says what was seen, and the model is served without batching. `inputs` says
    what the rows were, `batches` holds the largest differences between a batch and its rows.
    """

    absolute_tolerance: float = Field(gt=0)
    relative_tolerance: float = Field(ge=0)
    independent: bool
    reason: str = ""
    inputs: str = ""
    batches: tuple[BatchParity, ...] = ()


class Spread(_Part):
    """The median and the quartiles of what was measured."""

    median: float = Field(gt=0)
    lower: float = Field(gt=0)
    upper: float = Field(gt=0)


class SpeedProof(_Part):
    """Runs of the variant and of its fp32 model by turns, `n` of each: in processor time of the one
    thread that they run on, or, on a GPU, in the time that passed.

    `speedup` is over the pairs: how many times the variant fits into the fp32 run beside it.
    """

    batch_size: int = Field(gt=0)
    n: int = Field(gt=0)
    fp32_microseconds: Spread
    variant_microseconds: Spread
    speedup: Spread


class VariantProof(_Part):
    """What a model of lower precision is held against: the fp32 model of the same checkpoint.

    `loss` and `max_loss` are points of accuracy, or per cent of the error. `method` is that of
    int8's ranges, or `mixed` where some operators stay in fp32, as with fp16; `calibration_n` is
    the number of training samples that ranges were taken from. `parity` is how far fp16 is from
    fp32 over test samples, and is missing of int8.
    """

    precision: Literal["int8", "fp16"]
    method: Literal["static", "dynamic", "mixed"]
    calibration_n: int = Field(ge=0)
    fp32_sha256: Sha256
    fp32_value: float = Field(ge=0)
    loss: float
    max_loss: float = Field(ge=0)
    parity: ParityProof | None = None
    speed: tuple[SpeedProof, ...] = Field(min_length=1)
    machine: str


class EngineProof(_Part):
    """What a TensorRT engine was built for, by which versions, and of which ONNX graph.

    `key` names the build: engines of equal keys are equal. `profiles` has of each input the
    smallest, the likeliest and the largest shape; `parity` how far the engine is from ONNX Runtime
    over test samples, and is missing of int8.
    """

    precision: Literal["fp32", "fp16", "int8"]
    key: str
    gpu: str
    capability: str
    driver: str
    cuda: str
    tensorrt: str
    onnx_sha256: Sha256
    profiles: dict[str, tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]]
    parity: ParityProof | None = None


class Passport(_Part):
    """Everything that was proven of one version when it was published.

    `files` maps each file of the version (relative path) to its SHA-256; `labels_sha256` is that of
    the model's LABELS, missing where there are none, and of versions from before it was kept;
    `weights_sha256` is that of the checkpoint's weights; `created` is UTC in ISO 8601; `commit` the
    exporting code's. What comes from a checkpoint names it, and was measured on its data; what
    comes from outside has a `source` in place of that. `parity` is missing of what is not held
    against torch.
    """

    schema_: Literal["penstock.passport/1"] = Field(default=SCHEMA, alias="schema")
    model: str
    version: int = Field(gt=0)
    files: dict[str, Sha256] = Field(min_length=1)
    labels_sha256: Sha256 | None = None
    source: SourceProof | None = None
    weights_sha256: Sha256 | None = None
    architecture: str | None = None
    parameters: int | None = Field(default=None, ge=0)
    recipe: str | None = None
    seed: int | None = None
    dataset: DatasetProof | None = None
    task: str = "classification"
    accuracy: AccuracyProof | None = None
    error: ErrorProof | None = None
    translation: TranslationProof | None = None
    likeness: LikenessProof | None = None
    parity: ParityProof | None = None
    rows: RowsProof | None = None
    variant: VariantProof | None = None
    engine: EngineProof | None = None
    opset: int | None = Field(gt=0)  # None of a graph without operators of ONNX's own
    created: str
    commit: str | None = None
    versions: dict[str, str]

    @model_validator(mode="after")
    def _proven(self) -> "Passport":
        if self.source is None:
            self._from_checkpoint()
        elif self.rows is None and self.parity is None:
            raise ValueError("rows: neither this nor parity is there")
        return self

    def _from_checkpoint(self) -> None:
        missing = [name for name in _CHECKPOINT if getattr(self, name) is None]
        if missing:
            raise ValueError(f"{', '.join(missing)}: missing, and so is a source in their place")
        if self.accuracy is None and self.error is None and self.translation is None:
            raise ValueError("accuracy: neither this nor error nor translation is there")
        if self.parity is None and self.variant is None and self.engine is None:
            raise ValueError("parity: neither this nor variant nor engine is there")

    def to_dict(self) -> dict[str, Any]:
        """The passport as plain values, as `passport.json` holds them."""
        return self.model_dump(mode="json", by_alias=True)

    def to_json(self) -> str:
        """The text of `passport.json`."""
        return json.dumps(self.to_dict(), indent=2) + "\n"


def read(path: Path) -> Passport:
    """The passport in the file `path`.

    Raises PassportError where the text is not a passport of a known schema, OSError where the
    file cannot be read.
    """
    try:
        return Passport.model_validate_json(path.read_bytes())
    except ValidationError as error:
        faults = "; ".join(
            f"{'.'.join(map(str, fault['loc'])) or 'document'}: {fault['msg']}"
            for fault in error.errors()
        )
        raise PassportError(f"{path}: not a passport of schema {SCHEMA}: {faults}") from None


def file_sha256(path: Path) -> str:
    """The SHA-256 of the file `path`, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def mismatches(passport: Passport, folder: Path) -> list[str]:
    """What in the version's `folder`, or of the labels beside it, is not what the passport vouches
    for, one sentence each; empty if all is."""
    faults = []
    for name, expected in passport.files.items():
        path = (folder / name).resolve()
        if not path.is_relative_to(folder.resolve()):
            faults.append(f"{name}: the passport names a file outside of the version folder")
        else:
            faults += _mismatch(name, path, expected)
    if passport.labels_sha256 is not None:
        faults += _mismatch(LABELS, folder.parent / LABELS, passport.labels_sha256)
    return faults


def _mismatch(name: str, path: Path, expected: str) -> list[str]:
    if not path.is_file():
        return [f"{name}: the passport vouches for it, but the file is missing"]
    if (actual := file_sha256(path)) != expected:
        return [f"{name}: SHA-256 is {actual}, the passport says {expected}"]
    return []
