"""The proof that travels with a model version: `passport.json`, written by export, read at load.

The schema is versioned by its `schema` field. A reader refuses a schema it does not know rather
than guess; fields may be added within a version, never renamed or given another meaning.
"""

import hashlib
import json
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

FILENAME: Final = "passport.json"
SCHEMA: Final = "penstock.passport/1"

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


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
    for pictures, deviations for series.
    """

    value: float = Field(ge=0)
    n: int = Field(gt=0)
    split: str = "test"
    checkpoint: float = Field(ge=0)


class BatchParity(_Part):
    """Largest differences between torch and ONNX Runtime over all outputs at one batch size."""

    batch_size: int = Field(gt=0)
    samples: Literal["real", "extreme"]
    max_absolute: float = Field(ge=0)
    max_relative: float = Field(ge=0)


class ParityProof(_Part):
    """The tolerances of the gate and what was measured; |a - b| <= atol + rtol * |b| everywhere."""

    absolute_tolerance: float = Field(gt=0)
    relative_tolerance: float = Field(ge=0)
    batches: tuple[BatchParity, ...] = Field(min_length=1)


class Passport(_Part):
    """Everything that was proven of one version when it was published.

    `files` maps each file of the version (relative path) to its SHA-256; `weights_sha256` is that
    of the checkpoint's weights; `created` is UTC in ISO 8601; `commit` the exporting code's.
    """

    schema_: Literal["penstock.passport/1"] = Field(default=SCHEMA, alias="schema")
    model: str
    version: int = Field(gt=0)
    files: dict[str, Sha256] = Field(min_length=1)
    weights_sha256: Sha256
    architecture: str
    parameters: int = Field(ge=0)
    recipe: str
    seed: int
    dataset: DatasetProof
    task: str = "classification"
    accuracy: AccuracyProof | None = None
    error: ErrorProof | None = None
    parity: ParityProof
    opset: int = Field(gt=0)
    created: str
    commit: str | None = None
    versions: dict[str, str]

    @model_validator(mode="after")
    def _measured(self) -> "Passport":
        if self.accuracy is None and self.error is None:
            raise ValueError("accuracy: neither this nor error is there")
        return self

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
    """What in `folder` is not what the passport vouches for, one sentence each; empty if all is."""
    faults = []
    for name, expected in passport.files.items():
        path = (folder / name).resolve()
        if not path.is_relative_to(folder.resolve()):
            faults.append(f"{name}: the passport names a file outside of the version folder")
        elif not path.is_file():
            faults.append(f"{name}: the passport vouches for it, but the file is missing")
        elif (actual := file_sha256(path)) != expected:
            faults.append(f"{name}: SHA-256 is {actual}, the passport says {expected}")
    return faults
