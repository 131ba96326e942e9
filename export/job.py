"""What to export, by which measure, and where to. Every default stands here."""

from dataclasses import dataclass, field
from pathlib import Path

REPOSITORY = Path("model_repository")
# The exporter's own: any other is a conversion of it. From 22 on, older servers cannot read it.
OPSET = 18
OPSETS = (18, 24)
MAX_BATCH_SIZE = 64


@dataclass(frozen=True, slots=True)
class Tolerance:
    """|a - b| <= absolute + relative * |b|, where b is torch's value.

    Float32 keeps 24 bits: roundings in another order cost some 1e-6 of a logit of ordinary size,
    and up to 1e-5 of one that an input of ten times the full scale brings about.
    """

    absolute: float = 1e-4
    relative: float = 1e-4


@dataclass(frozen=True, slots=True)
class Job:
    """`name` None stands for the recipe's, `version` None for the next free one, and
    `max_batch_size` None for that of the model's config.pbtxt, or MAX_BATCH_SIZE without one."""

    checkpoint: Path
    repository: Path = REPOSITORY
    name: str | None = None
    version: int | None = None
    opset: int = OPSET
    max_batch_size: int | None = None
    data_dir: Path | None = None
    tolerance: Tolerance = field(default_factory=Tolerance)
