"""What to export, by which measure, and where to. Every default stands here."""

from dataclasses import dataclass, field
from pathlib import Path

from serving.types import TensorSpec

REPOSITORY = Path("model_repository")
# The exporter's own; any other is a conversion of it. Triton 24.10 reads up to 21.
OPSET = 18
OPSETS = (18, 24)
MAX_BATCH_SIZE = 64
MOST_ROWS = 65_536  # that may be asked for: the gates hold a batch of so many in memory
AUTO = "auto"
PRECISIONS = ("fp32", "int8", "fp16")
ENGINES = ("fp32", "fp16", "int8")  # what TensorRT may compute in
RUN_TIMEOUT = 600.0
MAX_LOSS = 0.5  # points of accuracy that a variant may lose, or per cent that its error may grow
PARTS = ("decoder",)  # of networks, that can be exported as models of their own


@dataclass(frozen=True, slots=True)
class Tolerance:
    """|a - b| <= absolute + relative * |b|, where b is torch's value.

    Float32 roundings in another order: on our recipes the largest difference is 2e-6 over real
    samples and 2e-5 over inputs of ten times the full scale.
    """

    absolute: float = 1e-4
    relative: float = 1e-4


# Of half precision, whose numbers have 11 bits, against fp32.
HALF_TOLERANCE = Tolerance(absolute=2e-2, relative=2e-2)


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
    part: str | None = None  # see export.parts; None for the whole network
    data_dir: Path | None = None
    # Of PRECISIONS, or AUTO alone; fp32, which the others are held against, is always made.
    variants: tuple[str, ...] = ()
    max_loss: float = MAX_LOSS
    # Of ENGINES: TensorRT engines to publish besides.
    tensorrt: tuple[str, ...] = ()
    tolerance: Tolerance = field(default_factory=Tolerance)


@dataclass(frozen=True, slots=True)
class ImportJob:
    """The ONNX file `source` as a version. `name` None stands for the file's; the others are as in
    Job, except that `max_batch_size` 0 is a model that does not batch. `sample` is an .npz file of
    inputs, None for generated ones, and `run_timeout` the seconds that a run may take."""

    source: Path
    repository: Path = REPOSITORY
    name: str | None = None
    version: int | None = None
    max_batch_size: int | None = None
    sample: Path | None = None
    run_timeout: float = RUN_TIMEOUT
    tolerance: Tolerance = field(default_factory=Tolerance)


@dataclass(frozen=True, slots=True)
class ModuleJob:
    """The torch module that the callable `reference` (`package.module:callable`) returns. `inputs`
    are its arguments, without the batch dimension; `outputs` names what it gives, if anything;
    `weights` is a file, None where the callable brings its own. `name` None stands for the
    module's, `sample` is as in ImportJob, and the others are as in Job."""

    reference: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[str, ...] = ()
    weights: Path | None = None
    sample: Path | None = None
    repository: Path = REPOSITORY
    name: str | None = None
    version: int | None = None
    opset: int = OPSET
    max_batch_size: int | None = None
    tolerance: Tolerance = field(default_factory=Tolerance)
