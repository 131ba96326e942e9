"""What the person at the terminal sees of an export."""

import shlex
from collections.abc import Sequence
from functools import partial
from types import TracebackType
from typing import Final

from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from export import speed
from export.model_config import MODEL
from export.publish import Dropped, Published
from serving.passport import (
    BatchParity,
    EngineProof,
    LikenessProof,
    ParityProof,
    Passport,
    RowsProof,
    TranslationProof,
)


class Report:
    """One line per step as it begins, a spinner while it runs; the proof at the end."""

    def __init__(self, steps: Sequence[str]) -> None:
        self._console = Console(highlight=False, soft_wrap=True)
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=self._console,
            transient=True,
            disable=not self._console.is_terminal,
        )
        self._task = self._progress.add_task("", total=len(steps))

    def __enter__(self) -> "Report":
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()

    def step(self, name: str) -> None:
        self._console.print(f"{name} …", style="dim")
        self._progress.update(self._task, description=name, advance=1)

    def progress(self, text: str) -> None:
        """How far the step is, where there is a terminal to see it."""
        self._progress.update(self._task, description=text)

    def summary(self, published: Published) -> None:
        passport = published.passport
        show = self._console.print
        if passport.parity:
            show(_table("torch and ONNX Runtime", passport.parity, passport.parity.batches))
        if passport.rows:
            self._rows(passport.rows)
        source = passport.source
        if source and source.kind == "onnx" and source.sha256 != passport.files[MODEL]:
            show(
                "Changed    the classifier's outputs: a tensor with a column for each class in the "
                "place of maps, a label for each row",
                style="yellow",
            )
        if passport.accuracy or passport.error:
            show(_accuracy(passport))
        if passport.translation:
            show(_translation(passport.translation))
        if passport.likeness:
            show(_likeness(passport.likeness))
        show(
            f"Published  {published.folder}  "
            f"({passport.model} version {passport.version}, {published.size / 1024:,.0f} KiB)",
            style="bold green",
            markup=False,
        )
        for variant in published.variants:
            self._variant(variant)
        repository = shlex.quote(str(published.folder.parent.parent))
        show(f"Next       penstock serve --model-repository {repository}", markup=False)

    def _variant(self, variant: Published | Dropped) -> None:
        show = partial(self._console.print, markup=False)
        if isinstance(variant, Dropped):
            show(f"Dropped    {variant.precision}: {variant.reason}", style="yellow")
            return
        show(_kept(variant), style="bold green")
        proof, name = variant.passport.variant, variant.passport.model
        if proof and speed.slower(proof.speed):
            show(f"Not faster {name} than fp32 here; it was asked for by name", style="yellow")

    def _rows(self, proof: RowsProof) -> None:
        if proof.batches:
            self._console.print(_table("a batch and its rows alone", proof, proof.batches))
        if proof.reason:
            self._console.print(f"No batches {proof.reason}", style="yellow", markup=False)


def _table(title: str, proof: ParityProof | RowsProof, batches: Sequence[BatchParity]) -> Table:
    allowed = f"{proof.absolute_tolerance:g} + {proof.relative_tolerance:g} of its value"
    table = Table(
        title=f"Largest difference between {title}",
        caption=f"allowed for each element: {allowed}",
        title_justify="left",
        caption_justify="left",
    )
    table.add_column("batch size", justify="right")
    table.add_column("samples")
    table.add_column("absolute", justify="right")
    table.add_column("relative", justify="right")
    for batch in batches:
        table.add_row(
            f"{batch.batch_size}",
            batch.samples,
            f"{batch.max_absolute:.1e}",
            f"{batch.max_relative:.1e}",
        )
    return table


# Of what is never just right: what its error is, and over what.
_MEASURES: Final = {
    "language": ("nats per token", "tokens"),
    "generation": ("Fréchet distance of pixels", "pictures"),
}


def _kept(variant: Published) -> str:
    """A published variant against its fp32 model."""
    passport, proof = variant.passport, variant.passport.variant
    if passport.engine:
        return _engine(variant, passport.engine)
    assert proof is not None
    unit = "points of accuracy lost" if passport.accuracy else "% of error added"
    speeds = "; ".join(map(speed.shown, proof.speed))
    made = f"{proof.method} {proof.precision}, {variant.size / 1024:,.0f} KiB"
    return f"Published  {variant.folder}  ({made}; {proof.loss:.2f} {unit}; {speeds})"


def _engine(variant: Published, proof: EngineProof) -> str:
    """A published engine against ONNX Runtime."""
    made = f"TensorRT {proof.tensorrt}, {proof.precision} for {proof.gpu}"
    far = ""
    if proof.parity:
        largest = max(each.max_absolute for each in proof.parity.batches)
        far = f"; at most {largest:.1e} from ONNX Runtime"
    return f"Published  {variant.folder}  ({made}, {variant.size / 1024:,.0f} KiB{far})"


def _likeness(proof: LikenessProof) -> str:
    return (
        f"Likeness   Fréchet distance {proof.value:.4g} by {proof.features} features of "
        f"{proof.judge} (over {proof.n:,} test pictures; of real ones {proof.floor:.4g})"
    )


def _translation(proof: TranslationProof) -> str:
    return (
        f"BLEU       torch {proof.checkpoint:.2f}, ONNX Runtime {proof.value:.2f}, greedily "
        f"{proof.greedy:.2f} ({proof.beams} beams, {proof.n:,} {proof.split} texts, "
        f"{proof.signature})"
    )


def _accuracy(passport: Passport) -> str:
    accuracy, error = passport.accuracy, passport.error
    if accuracy is None:
        assert error is not None
        measure, what = _MEASURES.get(passport.task, ("mean square", "samples"))
        return (
            f"Error      torch {error.checkpoint:.6g}, ONNX Runtime {error.value:.6g} "
            f"({measure} over {error.n:,} {error.split} {what})"
        )
    return (
        f"Accuracy   torch {accuracy.checkpoint:.2%}, ONNX Runtime {accuracy.value:.2%} "
        f"({round(accuracy.value * accuracy.n):,} of {accuracy.n:,} {accuracy.split} samples)"
    )
